#include "textflag.h"

// func Fork(trap, a1, a2 uintptr) (r1 uintptr)
//
// The return address is in R30, which each of the two processes has for itself.
TEXT ·Fork(SB),NOSPLIT|NOFRAME,$0-32
	MOVD	a1+8(FP), R0
	MOVD	a2+16(FP), R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	trap+0(FP), R8
	SVC
	MOVD	R0, r1+24(FP)
	RET
