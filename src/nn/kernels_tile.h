/*
 * kernels_tile.h
 *	  The tile of all convolutions and products, compiled once in each
 *	  instruction set's file, after its vector primitives.
 *
 * MR x NV accumulators stay in registers while weights stream by: for each value
 * of K, NV vectors of weights and MR broadcasts.  All parameters but the job are
 * compile-time constants of the function that inlines this, so loops unroll and
 * the accumulator array becomes registers; a test reads the assembly for spills.
 * Every output is one chain of FMAs in the order of the steps, whatever the
 * tile's size: results do not depend on how pixels were cut.
 */
#if defined(__clang__)
#define NN_UNROLL _Pragma("clang loop unroll(full)")
#define NN_UNROLL_TAPS
#else
#define NN_UNROLL_TAPS _Pragma("GCC unroll 3")
#define NN_UNROLL _Pragma("GCC unroll 32")
#endif
#define NN_INLINE static inline __attribute__((always_inline))

/* Left alone gcc loads values for the K after next, or keeps those that neighbours
 * share, and runs out of registers: finish one K before the next. */
#define NN_IN_ORDER __asm__ __volatile__("" ::: "memory")

#define NV_BLOCK (NN_LANES / VW)	/* vectors of a block */

/* One value of K: p and q point at the first pixels' in both lines. */
NN_INLINE void
tile_k(vf *acc, const float *p, const float *q, const float *b, const int mr, const int nv, const int stride,
	   const int half)
{
	vf			w[NV_BLOCK * TILE_NB];

	NN_UNROLL
	for (int v = 0; v < nv; v++)
		w[v] = vf_load(b + v * VW);
	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		vf			x = vf_set1(i < half ? p[i * stride] : q[(i - half) * stride]);

		NN_UNROLL
		for (int v = 0; v < nv; v++)
			acc[i * nv + v] = vf_fma(x, w[v], acc[i * nv + v]);
	}
}

/* Start the sums: from the bias, or from what an earlier chunk of K left. */
NN_INLINE void
tile_start(const nn_tile_job *j, vf *acc, const float *o0, const float *o1, const int mr, const int nv,
		   const int half)
{
	if (j->first)
	{
		NN_UNROLL
		for (int v = 0; v < nv; v++)
		{
			vf			x = vf_load(j->bias + v * VW);

			NN_UNROLL
			for (int i = 0; i < mr; i++)
				acc[i * nv + v] = x;
		}
		return;
	}
	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		const float *o = i < half ? o0 + i * j->out_pix : o1 + (i - half) * j->out_pix;

		NN_UNROLL
		for (int v = 0; v < nv; v++)
			acc[i * nv + v] = vf_load(o + v / NV_BLOCK * j->out_blk + v % NV_BLOCK * VW);
	}
}

/* After the last chunk of K add the residual and clip; store. */
NN_INLINE void
tile_finish(const nn_tile_job *j, vf *acc, float *o0, float *o1, const float *r0, const float *r1, const int mr,
			const int nv, const int half)
{
	if (j->last)
	{
		vf			lo = vf_set1(j->lo),
					hi = vf_set1(j->hi);

		if (r0)
		{
			NN_UNROLL
			for (int i = 0; i < mr; i++)
			{
				const float *r = i < half ? r0 + i * j->res_pix : r1 + (i - half) * j->res_pix;

				NN_UNROLL
				for (int v = 0; v < nv; v++)
					acc[i * nv + v] = acc[i * nv + v] + vf_load(r + v / NV_BLOCK * j->res_blk + v % NV_BLOCK * VW);
			}
		}
		NN_UNROLL
		for (int i = 0; i < mr; i++)
			NN_UNROLL
			for (int v = 0; v < nv; v++)
				acc[i * nv + v] = vf_min(hi, vf_max(lo, acc[i * nv + v]));
	}
	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		float	   *o = i < half ? o0 + i * j->out_pix : o1 + (i - half) * j->out_pix;

		NN_UNROLL
		for (int v = 0; v < nv; v++)
			vf_store(o + v / NV_BLOCK * j->out_blk + v % NV_BLOCK * VW, acc[i * nv + v]);
	}
}

/* mr pixels, half (a count) of them at a0, o0, r0, stride floats apart; nb blocks
 * of couts. */
NN_INLINE void
tile_run(const nn_tile_job *j, const float *a0, const float *a1, float *o0, float *o1, const float *r0,
		 const float *r1, const int mr, const int nb, const int stride, const int half)
{
	vf			acc[TILE_MR * TILE_NB * NV_BLOCK];
	const int	nv = nb * NV_BLOCK;
	/* Where neighbouring pixels overlap (stems): no unrolling, see NN_IN_ORDER. */
	const int	ku = stride < NN_LANES ? 1 : TILE_KU;
	const float *b = j->b;
	const nn_step *step = j->step;
	const nn_step *end = step + j->nsteps;
	const char *ahead = j->ahead;

	tile_start(j, acc, o0, o1, mr, nv, half);
	for (; step < end; step++)
	{
		const float *p = a0 + step->off;
		const float *q = a1 + step->off;
		int			k = step->ki;

		for (int i = j->ahead_lines; i > 0; i--, ahead += NN_ALIGN)
			__builtin_prefetch(ahead, 0, 2);
		for (; ku > 1 && k >= ku; k -= ku)
		{
			NN_UNROLL
			for (int u = 0; u < ku; u++)
			{
				tile_k(acc, p + u, q + u, b + u * nv * VW, mr, nv, stride, half);
				NN_IN_ORDER;
			}
			p += ku;
			q += ku;
			b += ku * nv * VW;
		}
		for (; k > 0; k--, p++, q++, b += nv * VW)
		{
			tile_k(acc, p, q, b, mr, nv, stride, half);
			NN_IN_ORDER;
		}
	}
	tile_finish(j, acc, o0, o1, r0, r1, mr, nv, half);
}

#ifdef TILE3_MR
/* One block of couts of a kernel 3 taps wide, stride 1: one vector of weights a
 * value of K would make loads the bottleneck, so the three taps of a line go
 * together and each broadcast serves three sums.  A step is a line of taps:
 * weights ki x 16 for each tap. */
NN_INLINE void
tile3_run(const nn_tile_job *j, const float *a0, float *o0, const float *r0, const int mr)
{
	vf			acc[TILE3_MR];
	const float *b = j->b;
	const nn_step *step = j->step;
	const nn_step *end = step + j->nsteps;

	tile_start(j, acc, o0, o0, mr, 1, mr);
	for (; step < end; step++)
	{
		const float *p = a0 + step->off;
		const float *b1 = b + (size_t) step->ki * VW;
		const float *b2 = b1 + (size_t) step->ki * VW;
		const float *stop = b1;

		for (; b < stop; p++, b += VW, b1 += VW, b2 += VW)
		{
			vf			w0 = vf_load(b),
						w1 = vf_load(b1),
						w2 = vf_load(b2);

			NN_UNROLL
			for (int i = 0; i < mr + 2; i++)
			{
				vf			x = vf_set1(p[i * NN_LANES]);

				if (i < mr)
					acc[i] = vf_fma(x, w0, acc[i]);
				if (i >= 1 && i <= mr)
					acc[i - 1] = vf_fma(x, w1, acc[i - 1]);
				if (i >= 2)
					acc[i - 2] = vf_fma(x, w2, acc[i - 2]);
			}
		}
		b = b2;
	}
	tile_finish(j, acc, o0, o0, r0, r0, mr, 1, mr);
}
#endif

#define TILE_ARGS const nn_tile_job *j, const float *a0, const float *a1, \
				  float *o0, float *o1, const float *r0, const float *r1

/* A tile of one line, and one of two: half pixels of the first. */
#define TILE(mr, nb, stride) \
static void \
tile_##mr##x##nb##s##stride(TILE_ARGS) \
{ \
	tile_run(j, a0, a1, o0, o1, r0, r1, mr, nb, stride, mr); \
}
#define TILE2(mr, nb, stride, half) \
static void \
tile2_##mr##x##nb##s##stride##h##half(TILE_ARGS) \
{ \
	tile_run(j, a0, a1, o0, o1, r0, r1, mr, nb, stride, half); \
}

/* A tile of one block, three taps together. */
#define TILE3(mr) \
static void \
tile3_##mr(TILE_ARGS) \
{ \
	tile3_run(j, a0, o0, r0, mr); \
}
