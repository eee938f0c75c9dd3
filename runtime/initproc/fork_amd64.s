#include "textflag.h"

// func rawFork(trap, a1, a2 uintptr) (r1 uintptr)
//
// The return address is kept in a register, because the child, which goes on first and
// with the same stack, overwrites it (as in runtime/spawn).
TEXT ·rawFork(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ	a1+8(FP), DI
	MOVQ	a2+16(FP), SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	trap+0(FP), AX
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	MOVQ	AX, r1+24(FP)
	RET
