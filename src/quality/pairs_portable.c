/*
 * pairs_portable.c
 *	  The inner loops of near pairs for any CPU, and the choice among the sets.
 */
#define QLT_KERNELS qlt_pairs_portable
#include "quality/pairs_kernels.h"

const qlt_pair_kernels *
qlt_pair_kernels_for(nn_isa isa)
{
#if defined(__x86_64__)
	if (isa == nn_isa_auto || !nn_isa_available(isa))
		isa = nn_isa_best();
	if (isa >= nn_isa_avx512)
		return &qlt_pairs_avx512;
	if (isa == nn_isa_avx2)
		return &qlt_pairs_avx2;
#endif
	return &qlt_pairs_portable;
}
