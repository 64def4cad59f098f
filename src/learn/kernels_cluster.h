/*
 * kernels_cluster.h
 *	  Distances of k-means and of nearest neighbours; part of kernels_impl.h.
 *
 * Rows lie in groups of LRN_LANES, feature by feature: x[group][feature][lane].
 * A lane is a row and its sum runs over the features in order, so that every
 * width of vector gives the same bits.
 */

/* Vectors as the registers of this set hold them. */
#if defined(__AVX512F__)
#define VF		16				/* floats in one */
#define TILE	2				/* vectors of rows at once */
#elif defined(__AVX2__)
#define VF		8
#define TILE	1
#else
#define VF		4
#define TILE	1
#endif
typedef float vf __attribute__((vector_size(VF * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VF * 4), aligned(4), may_alias));

#define SELECTF(mask, a, b) ((vf) (((vi) (a) & (mask)) | ((vi) (b) & ~(mask))))

/* ---- k-means ---- */

/*
 * The nearest centre of each row, the first of equals, and score = |c|^2 / 2 - x.c.
 * centre: d x kp, kp a multiple of 8; half_norm: kp, infinite where padded.
 */
static void
kmeans_assign(const float *x, int64_t groups, int d, const float *centre, const float *half_norm,
			  int kp, int32_t *label, float *score)
{
	for (int64_t at = 0; at < groups * LRN_LANES; at += VF * TILE)
	{
		const float *rows = x + (size_t) (at / LRN_LANES) * LRN_LANES * (size_t) d + at % LRN_LANES;
		vf			best[TILE];
		vi			nearest[TILE];

		LRN_UNROLL
		for (int r = 0; r < TILE; r++)
		{
			best[r] = (vf) {0} + INFINITY;
			nearest[r] = (vi) {0};
		}
		for (int c = 0; c < kp; c += 8)
		{
			vf			dot[8][TILE];
			const float *w = centre + c;

			LRN_UNROLL
			for (int a = 0; a < 8; a++)
				LRN_UNROLL
				for (int r = 0; r < TILE; r++)
					dot[a][r] = (vf) {0};
			for (int j = 0; j < d; j++, w += kp)
				LRN_UNROLL
				for (int r = 0; r < TILE; r++)
				{
					vf			v = *(const vf *) (rows + (size_t) j * LRN_LANES + r * VF);

					LRN_UNROLL
					for (int a = 0; a < 8; a++)
						dot[a][r] = dot[a][r] + v * w[a];
				}
			LRN_UNROLL
			for (int a = 0; a < 8; a++)
				LRN_UNROLL
				for (int r = 0; r < TILE; r++)
				{
					vf			s = half_norm[c + a] - dot[a][r];
					vi			less = s < best[r];

					best[r] = SELECTF(less, s, best[r]);
					nearest[r] = ((c + a) & less) | (nearest[r] & ~less);
				}
		}
		LRN_UNROLL
		for (int r = 0; r < TILE; r++)
		{
			*(vf *) (score + at + r * VF) = best[r];
			*(vi *) (label + at + r * VF) = nearest[r];
		}
	}
}

/* out[t][row] = the least of closest[row] and the squared distance to candidate t of four. */
static void
kmeans_candidates(const float *x, int64_t groups, int d, const float *candidate,
				  const float *closest, float *out, size_t stride)
{
	for (int64_t at = 0; at < groups * LRN_LANES; at += VF)
	{
		const float *rows = x + (size_t) (at / LRN_LANES) * LRN_LANES * (size_t) d + at % LRN_LANES;
		vf			least = *(const vf *) (closest + at),
					sum[4];

		LRN_UNROLL
		for (int t = 0; t < 4; t++)
			sum[t] = (vf) {0};
		for (int j = 0; j < d; j++)
		{
			vf			v = *(const vf *) (rows + (size_t) j * LRN_LANES);

			LRN_UNROLL
			for (int t = 0; t < 4; t++)
			{
				vf			off = v - candidate[j * 4 + t];

				sum[t] = sum[t] + off * off;
			}
		}
		LRN_UNROLL
		for (int t = 0; t < 4; t++)
		{
			vi			less = sum[t] < least;

			*(vf *) (out + (size_t) t * stride + at) = SELECTF(less, sum[t], least);
		}
	}
}

/* Distances to eight centres from output o on, of n rows: sums of squares in double. */
INLINE void
square_sums(const lrn_model *m, const float *rows, const int n, int o, v8 *out)
{
	int			d = m->info.n_features;
	const float *w = m->weights + o;
	half		sum[4][HALVES];

	LRN_UNROLL
	for (int r = 0; r < n; r++)
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
			sum[r][h] = (half) {0};
	for (int j = 0; j < d; j++, w += m->padded)
	{
		double		x[4];

		LRN_UNROLL
		for (int r = 0; r < n; r++)
			x[r] = ((double) rows[(size_t) r * (size_t) d + (size_t) j] - m->shift[j]) * m->scale[j];
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
		{
			half		centre = __builtin_convertvector(((const half_f *) w)[h], half);

			LRN_UNROLL
			for (int r = 0; r < n; r++)
			{
				half		off = x[r] - centre;

				sum[r][h] = sum[r][h] + off * off;
			}
		}
	}
	LRN_UNROLL
	for (int r = 0; r < n; r++)
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
			((half *) &out[r])[h] = sum[r][h];
}

static void
kmeans_rows(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	size_t		d = (size_t) m->info.n_features;
	int			k = m->info.n_outputs;

	for (int64_t i = 0; i < n; i += 4)
	{
		int			take = n - i < 4 ? (int) (n - i) : 4;

		for (int o = 0; o < m->padded; o += 8)
		{
			v8			s[4];

			if (take == 4)
				square_sums(m, rows + (size_t) i * d, 4, o, s);
			else
				for (int r = 0; r < take; r++)
					square_sums(m, rows + (size_t) (i + r) * d, 1, o, &s[r]);
			for (int r = 0; r < take; r++)
			{
				sqrt8(&s[r]);
				put8(out + (size_t) (i + r) * (size_t) k + (size_t) o, &s[r], k - o);
			}
		}
	}
}
