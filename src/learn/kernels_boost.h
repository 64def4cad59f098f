/*
 * kernels_boost.h
 *	  Gradient boosting's loops in floating point; part of kernels_impl.h.
 *
 * Vectors are as wide as the instruction set's registers; every lane does the
 * same operations in the same order, and what goes over lanes (the best
 * border, a row's loss) is ordered by position, so that the width does not
 * show in the result.
 */

#if defined(__AVX512F__)
#define W	16					/* floats a register holds */
#elif defined(__AVX2__)
#define W	8
#else
#define W	4
#endif
typedef float vf __attribute__((vector_size(W * 4), may_alias));
typedef float vfu __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(W * 4), may_alias));
typedef uint32_t vu __attribute__((vector_size(W * 4), may_alias));
typedef int32_t viu __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef double vd __attribute__((vector_size(W * 4), may_alias));
typedef int64_t vl __attribute__((vector_size(W * 4), may_alias));
typedef uint64_t vul __attribute__((vector_size(W * 4), may_alias));

/* ---- the best border of a column ---- */

/*
 * Prefix sums of the bins that have rows become candidates; the gain of each
 * is one division.  Ties go to the first bin, whatever the lanes.
 */
static void
boost_scan(lrn_boost_scan *s, const int64_t *hist, int n_bins)
{
	const int	lanes = W / 2;
	const uint64_t row_mask = ((uint64_t) 1 << s->row_bits) - 1;
	int64_t		g[256 + 8] __attribute__((aligned(64)));
	int64_t		h[256 + 8] __attribute__((aligned(64)));
	int64_t		at[256 + 8] __attribute__((aligned(64)));
	int64_t		sum_g = s->start[0],
				sum_h = s->start[1];
	int			n = 0;
	double		total_g = (double) s->total[0] * s->g_unit,
				total_h = (double) ((uint64_t) s->total[1] >> s->row_bits) * s->h_unit;
	int64_t		total_rows = (int64_t) ((uint64_t) s->total[1] & row_mask);
	vd			best = (vd) {0} + s->gain;
	vl			best_at = (vl) {0} - 1;

	for (int bin = 0; bin < n_bins; bin++)
	{
		sum_g += hist[2 * bin];
		sum_h += hist[2 * bin + 1];
		g[n] = sum_g;
		h[n] = sum_h;
		at[n] = bin;
		n += ((uint64_t) hist[2 * bin + 1] & row_mask) != 0;
	}
	for (int i = n; i < n + lanes; i++)
	{
		g[i] = h[i] = 0;		/* no rows: no candidate */
		at[i] = 0;
	}
	for (int i = 0; i < n; i += lanes)
	{
		vl			hl = *(const vl *) (h + i);
		vl			rows = hl & (int64_t) row_mask;
		vd			left_g = __builtin_convertvector(*(const vl *) (g + i), vd) * s->g_unit;
		vd			left_h = __builtin_convertvector((vl) ((vul) hl >> s->row_bits), vd) * s->h_unit;
		vd			right_g = total_g - left_g,
					right_h = total_h - left_h;
		vd			l = left_h + s->l2,
					r = right_h + s->l2;
		vd			bottom = l * r;
		vd			gain = (left_g * left_g * r + right_g * right_g * l) / bottom;
		vl			better;

		better = (vl) (rows >= s->min_rows) & (vl) (total_rows - rows >= s->min_rows) &
			(vl) (left_h >= s->min_hessian) & (vl) (right_h >= s->min_hessian) &
			(vl) (bottom > 0) & (vl) (gain > best);
		best = (vd) (((vl) gain & better) | ((vl) best & ~better));
		best_at = (*(const vl *) (at + i) & better) | (best_at & ~better);
	}
	for (int lane = 0; lane < lanes; lane++)
		if (best_at[lane] >= 0 &&
			(best[lane] > s->gain || (s->bin >= 0 && best[lane] == s->gain && best_at[lane] < s->bin)))
		{
			s->gain = best[lane];
			s->bin = (int) best_at[lane];
		}
}

/* ---- gradients ---- */

/*
 * exp() of floats, relative error below 3e-7: x = n ln 2 + r, a polynomial
 * for exp(r), and 2^n from bits.  Below -87 it is about 1e-38, above 88 it
 * stays there.
 */
INLINE void
exp_floats(vf *x)
{
	const float shifter = 12582912.0f;	/* 1.5 * 2^23: rounds to an integer */
	vf			v = *x,
				n,
				r,
				p;
	vi			low = v < -87.0f,
				high = v > 88.0f;

	v = (vf) (((vi) v & ~low) | ((vi) ((vf) {0} - 87.0f) & low));
	v = (vf) (((vi) v & ~high) | ((vi) ((vf) {0} + 88.0f) & high));
	n = v * 1.44269504f + shifter;
	vi			bits = ((vi) n + 127) << 23;

	n = n - shifter;
	r = v - n * 0.693145752f;
	r = r - n * 1.42860677e-6f;
	p = r * 1.98412698e-4f + 1.38888889e-3f;
	p = p * r + 8.33333333e-3f;
	p = p * r + 4.16666667e-2f;
	p = p * r + 1.66666667e-1f;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	*x = p * (vf) bits;
}

/* ln() of positive floats: x = 2^n m, m from sqrt(1/2) to sqrt(2), a series in (m-1)/(m+1). */
INLINE void
log_floats(vf *x)
{
	vi			bits = (vi) *x;
	vi			n = (bits - 0x3f3504f3) >> 23;
	vf			m = (vf) (bits - (n << 23));
	vf			f = (m - 1.0f) / (m + 1.0f);
	vf			s = f * f,
				p;

	p = s * 0.111111111f + 0.142857143f;
	p = p * s + 0.2f;
	p = p * s + 0.333333333f;
	p = p * s + 1.0f;
	*x = p * f * 2.0f + __builtin_convertvector(n, vf) * 0.693147181f;
}

INLINE void
store_pairs(int32_t *pair, const vf *g, const vf *h, float g_scale, float h_scale)
{
	vi			gi = __builtin_convertvector(*g * g_scale, vi),
				hi = __builtin_convertvector(*h * h_scale, vi);

	for (int lane = 0; lane < W; lane++)
	{
		pair[2 * lane] = gi[lane];
		pair[2 * lane + 1] = hi[lane];
	}
}

/* 1 where y is the class, else 0. */
INLINE void
is_class(const int32_t *y, int32_t class, vf *out)
{
	vi			same = *(const viu *) y == class;

	*out = (vf) ((vi) ((vf) {0} + 1.0f) & same);
}

/* Largest score and 1 / sum of exponentials of rows 0 .. n-1, n a multiple of 16. */
static void
boost_softmax(const float *score, size_t stride, const double *base, int k, int64_t n, float *top, float *inverse)
{
	for (int64_t i = 0; i < n; i += W)
	{
		vf			most = *(const vfu *) (score + i) + (float) base[0],
					sum = (vf) {0};

		for (int c = 1; c < k; c++)
		{
			vf			s = *(const vfu *) (score + (size_t) c * stride + i) + (float) base[c];
			vi			more = s > most;

			most = (vf) (((vi) s & more) | ((vi) most & ~more));
		}
		for (int c = 0; c < k; c++)
		{
			vf			e = *(const vfu *) (score + (size_t) c * stride + i) + (float) base[c] - most;

			exp_floats(&e);
			sum = sum + e;
		}
		*(vfu *) (top + i) = most;
		*(vfu *) (inverse + i) = 1.0f / sum;
	}
}

/* Gradients and hessians of rows 0 .. n-1, n a multiple of 16, in units. */
static void
boost_gradients(const lrn_boost_rows *a, int64_t n, int32_t *pair)
{
	for (int64_t i = 0; i < n; i += W)
	{
		vf			s = *(const vfu *) (a->score + i),
					g,
					h,
					y;

		if (a->target)
		{
			g = s - *(const vfu *) (a->target + i);
			h = (vf) {0} + 1.0f;
		}
		else
		{
			vf			p;

			is_class(a->class_id + i, a->class, &y);
			s = s + a->base;
			if (a->top)
			{
				p = s - *(const vfu *) (a->top + i);
				exp_floats(&p);
				p = p * *(const vfu *) (a->inverse + i);
			}
			else
			{
				/* exp(-s) cannot overflow: it is held below 88 */
				p = -s;
				exp_floats(&p);
				p = 1.0f / (1.0f + p);
			}
			g = p - y;
			h = p * (1.0f - p) * a->h_factor;
			/* Rounding may put the sum of exponentials below its largest term. */
			h = (vf) ((vi) h & (vi) (h > 0.0f));
		}
		if (a->weight)
		{
			vf			w = *(const vfu *) (a->weight + i);

			g = g * w;
			h = h * w;
		}
		store_pairs(pair + 2 * i, &g, &h, a->g_scale, a->h_scale);
	}
}

/* Weighted loss of rows 0 .. n-1 by row into loss; of one margin, or of the true class after softmax. */
static void
boost_losses(const lrn_boost_rows *a, int64_t n, float *loss)
{
	for (int64_t i = 0; i < n; i += W)
	{
		vf			s = *(const vfu *) (a->score + i),
					l;

		if (a->target)
		{
			l = s - *(const vfu *) (a->target + i);
			l = l * l;
		}
		else
		{
			/* -log p of the true class, whose score is s: log(sum) - (s - top) */
			if (a->top)
				l = 1.0f / *(const vfu *) (a->inverse + i);
			else
			{
				vf			y;

				is_class(a->class_id + i, a->class, &y);
				s = (s + a->base) * (1.0f - 2.0f * y);
				l = s;			/* log(1 + exp(s)), s as wrong as it is large */
				exp_floats(&l);
				l = 1.0f + l;
			}
			log_floats(&l);
			if (a->top)
				l = l - (s - *(const vfu *) (a->top + i));
		}
		if (a->weight)
			l = l * *(const vfu *) (a->weight + i);
		*(vfu *) (loss + i) = l;
	}
}
