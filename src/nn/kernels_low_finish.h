/*
 * kernels_low_finish.h
 *	  The end of a tile of few bits: from sums to stored elements.
 *
 * The including file defines
 *
 *		va						a vector of VW sums
 *		va_value(acc, j, v)		the sums of the panel's couts from v on as float32
 *		E_BYTES					of a native element
 *		E_RESIDUAL(j, r)		what VW elements of the residual are worth
 *		e_store()				VW values into native elements
 *		E_STORE_BLOCKS(j, o, f)	optional: clip and store TILE_NB blocks, side by side
 *		E_STORE_SILU(j, o, f, nb)	optional: SiLU of nb blocks, side by side or apart, and store
 *		NN_UNROLL				before loops to unroll, or nothing
 */
#define NN_INLINE static inline __attribute__((always_inline))
#define NV_BLOCK (NN_LANES / VW)	/* vectors of a block */
#define WORD sizeof(uint32_t)

/* Sums to values, residual, clip, store. */
NN_INLINE void
tile_finish(const nn_low_job *j, const va *acc, char *o0, char *o1, const char *r0, const char *r1, const int mr,
			const int nv, const int half)
{
	vf			lo = vf_set1(j->lo),
				hi = vf_set1(j->hi),
				pre_lo = vf_set1(j->pre_lo),
				pre_hi = vf_set1(j->pre_hi);
	vi			zero = vi_set1(j->zero);

	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		char	   *o = i < half ? o0 + i * j->out_pix : o1 + (i - half) * j->out_pix;
		const char *r = i < half ? r0 + i * j->res_pix : r1 + (i - half) * j->res_pix;
		vf			f[NV_BLOCK * TILE_NB];

		NN_UNROLL
		for (int v = 0; v < nv; v++)
		{
			f[v] = va_value(acc[i * nv + v], j, v * VW);
			if (r0)
				f[v] = vf_min(pre_hi, vf_max(pre_lo, f[v])) + E_RESIDUAL(j, r + v / NV_BLOCK * j->res_blk + v % NV_BLOCK * VW * E_BYTES);
		}
#ifdef E_STORE_BLOCKS
		if (nv == NV_BLOCK * TILE_NB)
		{
			E_STORE_BLOCKS(j, o, f);
			continue;
		}
#endif
		NN_UNROLL
		for (int v = 0; v < nv; v++)
			e_store(o + v / NV_BLOCK * j->out_blk + v % NV_BLOCK * VW * E_BYTES,
					vf_min(hi, vf_max(lo, f[v])), zero);
	}
}

/* float32 out, from sums that went to memory: not the hot path. */
static void
tile_wide(const nn_low_job *j, const va *acc, char *o0, char *o1, int mr, int nv, int half)
{
	vf			lo = vf_set1(j->lo),
				hi = vf_set1(j->hi);

	for (int i = 0; i < mr; i++)
	{
		char	   *o = i < half ? o0 + i * j->out_pix : o1 + (i - half) * j->out_pix;

		for (int v = 0; v < nv; v++)
			vf_store((float *) (o + v / NV_BLOCK * j->out_blk) + v % NV_BLOCK * VW,
					 vf_min(hi, vf_max(lo, va_value(acc[i * nv + v], j, v * VW))));
	}
}

#ifdef E_STORE_SILU
/* SiLU into native elements: needs more registers than sums leave, so these went to
 * memory, too. */
static __attribute__((noinline)) void
tile_silu(const nn_low_job *j, const va *acc, char *o0, char *o1, const char *r0, const char *r1, int mr, int nv, int half)
{
	for (int i = 0; i < mr; i++, acc += nv)
	{
		char	   *o = i < half ? o0 + i * j->out_pix : o1 + (i - half) * j->out_pix;
		const char *r = i < half ? r0 + i * j->res_pix : r1 + (i - half) * j->res_pix;
		vf			f[NV_BLOCK * TILE_NB];

		for (int v = 0; v < nv; v++)
		{
			f[v] = va_value(acc[v], j, v * VW);
			if (r0)
				f[v] = f[v] + E_RESIDUAL(j, r + v / NV_BLOCK * j->res_blk + v % NV_BLOCK * VW * E_BYTES);
		}
		E_STORE_SILU(j, o, f, nv / NV_BLOCK);
	}
}
#endif

/* What tiles do by way of memory. */
NN_INLINE void
tile_through(const nn_low_job *j, const va *acc, char *o0, char *o1, const char *r0, const char *r1, int mr, int nv, int half)
{
#ifdef E_STORE_SILU
	if (j->through == nn_through_silu)
	{
		tile_silu(j, acc, o0, o1, r0, r1, mr, nv, half);
		return;
	}
#else
	(void) r0;
	(void) r1;
#endif
	tile_wide(j, acc, o0, o1, mr, nv, half);
}
