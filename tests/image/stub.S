/* Does what the Pi's firmware does for a 32-bit U-Boot and QEMU does not: QEMU starts a raw kernel at 0x10000, U-Boot wants to be
 * at 0x8000. Stands before U-Boot in one file. r0, r1 and r2 (where the device tree is) are handed on as they came. The copy's
 * place reaches over this code, so the loop runs from a page far above both. */
	.arm
	.arch armv6
	.globl _start
_start:
	adr	r3, copy
	mov	r4, #0x04000000
	adr	r5, copied
1:	ldr	r6, [r3], #4
	str	r6, [r4], #4
	cmp	r3, r5
	blo	1b
	adr	r3, payload
	ldr	r5, bytes
	mov	r4, #0x8000
	mov	r6, #0
	mcr	p15, 0, r6, c7, c5, 0
	mcr	p15, 0, r6, c7, c10, 4
	mov	pc, #0x04000000
copy:
2:	ldr	r6, [r3], #4
	str	r6, [r4], #4
	subs	r5, r5, #4
	bhi	2b
	mov	r6, #0
	mcr	p15, 0, r6, c7, c5, 0
	mcr	p15, 0, r6, c7, c10, 4
	mov	pc, #0x8000
copied:
bytes:
	.word	0x00200000
	.balign	16
payload:
