#include "textflag.h"

// func Fork(trap, a1, a2 uintptr) (r1 uintptr)
//
// The child goes on first and overwrites the return address on the stack that the
// two share, so it is kept in a register.
TEXT ·Fork(SB),NOSPLIT|NOFRAME,$0-32
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
