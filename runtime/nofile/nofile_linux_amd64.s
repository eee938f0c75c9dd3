#include "textflag.h"

// func prlimit(limit *[2]uint64) (r int)
TEXT ·prlimit(SB),NOSPLIT,$0-16
	MOVQ	$302, AX
	MOVQ	$0, DI
	MOVQ	$7, SI
	MOVQ	$0, DX
	MOVQ	limit+0(FP), R10
	SYSCALL
	MOVQ	AX, r+8(FP)
	RET
