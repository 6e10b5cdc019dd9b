include $(sort $(wildcard $(BR2_EXTERNAL_PASTCAM_PATH)/package/*/*.mk))
