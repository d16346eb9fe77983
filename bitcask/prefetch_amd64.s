#include "textflag.h"

// func prefetch(a, b, c, d unsafe.Pointer)
//
// PREFETCHW, which the assembler does not know.
TEXT ·prefetch(SB), NOSPLIT, $0-32
	MOVQ a+0(FP), AX
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08
	MOVQ b+8(FP), AX
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08
	MOVQ c+16(FP), AX
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08
	MOVQ d+24(FP), AX
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08
	RET
