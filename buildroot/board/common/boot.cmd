# boot.scr: chooses the root (A or B), counts the try, starts its kernel. Run by U-Boot from the FAT partition.
#
# RAUC's three variables in U-Boot's environment say what to do: BOOT_ORDER (which root first), BOOT_A_LEFT and BOOT_B_LEFT (tries
# left). Each start takes one try away before the kernel runs; the running system gives them back when it has proven itself. A root
# without tries is passed over. When neither has one left, both get three again and BOOT_ROUNDS counts how often that was so: a
# board that failed for a reason outside (power, camera, card) must find its way back without anybody there.
#
# @WORDS@ are filled in from board.conf when the card's image is made.

# What a board needs first, see board.conf.
@BEFORE@

# The firmware's own device tree, with what config.txt and the overlays made of it. Under another name, because the environment is
# saved below: an older U-Boot would believe the saved address at the next start, where the firmware may have chosen another.
setenv fdt ${fdt_addr}
setenv fdt_addr
# Nor may this board's Ethernet address be saved: in another board a copy of the card would put it over that one's own.
setenv ethaddr
setenv usbethaddr

test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3

# The firmware has put cmdline.txt and its own words there.
fdt addr ${fdt}
setenv words
fdt get value words /chosen bootargs
# Where there is no firmware, nobody has: the words of cmdline.txt.
test -n "${words}" || setenv words "console=@CONSOLE@ rootwait net.ifnames=0 panic=10 watchdog.open_timeout=180"
if test -n "${BOOT_ROUNDS}"; then setenv words "${words} pastcam.rounds=${BOOT_ROUNDS}"; fi

# From here to the kernel's own watchdog driver: a kernel that hangs costs this try and not a walk to the camera. Emulated boards
# say pastcam.watchdog=off: their watchdog bites at once. 15 s are nearly the most it can. wdt counts in decimal [ms], unlike setexpr.
setenv dog "${words}"
setexpr dog sub ".*pastcam.watchdog=off.*" off
setenv watch 'if test "${dog}" != off; then wdt dev watchdog@7e100000 && wdt start 15000; fi'

# load: the kernel, and an initial RAM disk where the root brings one (the emulated image does).
setenv start '
echo "pastcam: root ${slot}, ${left} tries left after this one";
setenv bootargs "${words} root=@DISK@p${part} ro rauc.slot=${slot}";
if load mmc 0:${part} ${kernel_addr_r} boot/@KERNEL@; then
  setenv disk -;
  if test -e mmc 0:${part} boot/initrd; then
    load mmc 0:${part} ${ramdisk_addr_r} boot/initrd && setenv disk ${ramdisk_addr_r}:${filesize};
  fi;
  run watch;
  @BOOT@ ${kernel_addr_r} ${disk} ${fdt};
fi;
echo "pastcam: root ${slot} does not start"'

for slot in ${BOOT_ORDER}; do
  setenv left 0
  if test "${slot}" = A; then
    setenv part 2
    setenv left ${BOOT_A_LEFT}
  elif test "${slot}" = B; then
    setenv part 3
    setenv left ${BOOT_B_LEFT}
  fi
  if test "${left}" -gt 0; then
    setexpr left ${left} - 1
    setenv BOOT_${slot}_LEFT ${left}
    # Before the kernel, always: the running system's fw_setenv needs a whole environment to change.
    saveenv
    run start
  fi
done

test -n "${BOOT_ROUNDS}" || setenv BOOT_ROUNDS 0
setexpr BOOT_ROUNDS ${BOOT_ROUNDS} + 1
setenv BOOT_A_LEFT 3
setenv BOOT_B_LEFT 3
saveenv
echo "pastcam: no root is left; both get three tries again (round ${BOOT_ROUNDS})"
sleep 5
reset
