#include "textflag.h"

// func prefetch(a, b, c, d unsafe.Pointer)
TEXT ·prefetch(SB), NOSPLIT, $0-32
	MOVD a+0(FP), R0
	PRFM (R0), PSTL1KEEP
	MOVD b+8(FP), R0
	PRFM (R0), PSTL1KEEP
	MOVD c+16(FP), R0
	PRFM (R0), PSTL1KEEP
	MOVD d+24(FP), R0
	PRFM (R0), PSTL1KEEP
	RET
