/*
 * test_nn_low_amx_bf16.c
 *	  The AMX kernels of bfloat16 on any CPU with AVX-512 VNNI and BF16: their own
 *	  code over an emulation of the tile instructions (amx.h), as one more table
 *	  in the tests of test_nn_low_conv.c.
 */
#if defined(__x86_64__) && !defined(__clang__)
#include <immintrin.h>

#include "nn/kernels_low_core.h"

/* This definition of the table takes precedence over the library's. */
#define NN_AMX_EMULATED
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma,f16c")
#include "nn/kernels_bf16_amx.c"
#pragma GCC pop_options

#define LOW_EMULATED nn_low_bf16_amx
#include "test_nn_low_conv.c"
#else
#include "unit.h"

int
main(void)
{
	skip("only for x86-64, by gcc");
	return done_testing();
}
#endif
