################################################################################
#
# pastcam
#
################################################################################

# The checkout this tree lies in, whatever state it is in.
PASTCAM_VERSION = $(call qstrip,$(shell sed -n 's/^version = //p' $(BR2_EXTERNAL_PASTCAM_PATH)/../Cargo.toml | head -n 1))
PASTCAM_SITE = $(BR2_EXTERNAL_PASTCAM_PATH)/..
PASTCAM_SITE_METHOD = local
PASTCAM_LICENSE = MIT or Apache-2.0
PASTCAM_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE

# What a build, a run or this tree's own output leaves there; .cargo would bring the
# settings of the machine the checkout lies on.
PASTCAM_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = \
	--exclude=/.cargo --exclude=/buildroot --exclude=/captures \
	--exclude=/logs --exclude=/target --exclude='*.tmp'

PASTCAM_DEPENDENCIES = \
	gst1-plugins-bad \
	gst1-plugins-base \
	gst1-plugins-good \
	gst1-plugins-ugly \
	gst1-rtsp-server \
	gstreamer1 \
	host-clang \
	host-pkgconf \
	libcamera

# The copy that is built has no .git: the program is told its commit.
PASTCAM_COMMIT = $(shell $(BR2_EXTERNAL_PASTCAM_PATH)/board/common/version commit)

# The cargo infrastructure sets the release profile through the environment, over
# Cargo.toml, from BR2_OPTIMIZE_*: no LTO, 16 units. A variable given twice on one command line takes
# its later value, so this is Cargo.toml's profile again: the loops over pixels need it.
#
# libcamera's bindings are made by bindgen, which asks libclang: it must be the host's, find its own
# headers, look into the target's sysroot, and find the C++ library's headers, which lie with the target's gcc.
PASTCAM_CARGO_ENV = \
	PASTCAM_COMMIT=$(PASTCAM_COMMIT) \
	CARGO_PROFILE_RELEASE_OPT_LEVEL=3 \
	CARGO_PROFILE_RELEASE_LTO=thin \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
	PKG_CONFIG_ALLOW_CROSS=1 \
	LIBCLANG_PATH=$(HOST_DIR)/lib \
	BINDGEN_EXTRA_CLANG_ARGS="--target=$(GNU_TARGET_NAME) --sysroot=$(STAGING_DIR) -resource-dir=$(HOST_DIR)/lib/clang/$(CLANG_VERSION_MAJOR) --gcc-install-dir=$$(dirname $$($(TARGET_CC) -print-libgcc-file-name))"

PASTCAM_CARGO_BUILD_OPTS = --features libcamera
PASTCAM_CARGO_INSTALL_OPTS = --features libcamera

# A local site is copied, not downloaded, and only downloads are vendored; the build proper is told
# --offline. So the crates are fetched here, once, as Cargo.lock pins them.
define PASTCAM_CARGO_VENDOR
	mkdir -p $(@D)/.cargo $(BR_CARGO_HOME)
	cd $(@D) && \
		$(TARGET_MAKE_ENV) $(PKG_CARGO_ENV) \
		flock $(BR_CARGO_HOME)/.br-lock \
		cargo vendor --manifest-path Cargo.toml --locked VENDOR \
		> .cargo/config.toml
endef
PASTCAM_PRE_BUILD_HOOKS += PASTCAM_CARGO_VENDOR

# Fixed numbers: /data outlives the root file system, so its owner must not move with an update.
# video: cameras and codecs. audio: microphones.
define PASTCAM_USERS
	pastcam 990 pastcam 990 ! /data/cache /bin/false video,audio the camera
endef

$(eval $(cargo-package))
