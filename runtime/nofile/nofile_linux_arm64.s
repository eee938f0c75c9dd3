#include "textflag.h"

// func prlimit(limit *[2]uint64) (r int)
TEXT ·prlimit(SB),NOSPLIT,$0-16
	MOVD	$261, R8
	MOVD	$0, R0
	MOVD	$7, R1
	MOVD	$0, R2
	MOVD	limit+0(FP), R3
	SVC
	MOVD	R0, r+8(FP)
	RET
