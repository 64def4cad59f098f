/*
 * latent_kernels.h
 *	  The inner loops of latent space, compiled once an instruction set.
 *
 * QLT_KERNELS names the table to define.  All arithmetic is lane by lane in vectors of QLT_LANES floats, cut to the
 * registers of the set; no operation is contracted, so that all sets give the same bits.
 */
#include "quality/latent_int.h"

#include <math.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VF		16				/* floats in a register */
#elif defined(__AVX2__)
#define VF		8
#else
#define VF		4
#endif
#define PARTS	(QLT_LANES / VF)
typedef float vf __attribute__((vector_size(VF * 4), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VF * 4), aligned(4), may_alias));
typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double vd __attribute__((vector_size(VF * 8 / 2), aligned(4), may_alias));	/* half as many lanes */
typedef int64_t vl __attribute__((vector_size(VF * 8 / 2), aligned(4), may_alias));
typedef float vh __attribute__((vector_size(VF * 4 / 2), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* ---- distances ---- */

#define WIDTH	(QLT_GROUP / VF > 4 ? 4 : QLT_GROUP / VF)	/* registers of points at once */
#if defined(__AVX512F__)
#define AT_ONCE	QLT_QUERIES
#else
#define AT_ONCE	2				/* queries: 16 registers hold no more sums */
#endif

INLINE void
distances_tile(const float *x, int d, const float *const *q, float *out, size_t stride)
{
	vf			sum[AT_ONCE][WIDTH];

	UNROLL
	for (int a = 0; a < AT_ONCE; a++)
		UNROLL
		for (int v = 0; v < WIDTH; v++)
			sum[a][v] = (vf) {0};
	for (int j = 0; j < d; j++, x += QLT_GROUP)
		UNROLL
		for (int v = 0; v < WIDTH; v++)
		{
			vf			point = *(const vf *) (x + v * VF);

			UNROLL
			for (int a = 0; a < AT_ONCE; a++)
			{
				vf			off = point - q[a][j];

				sum[a][v] = sum[a][v] + off * off;
			}
		}
	UNROLL
	for (int a = 0; a < AT_ONCE; a++)
		UNROLL
		for (int v = 0; v < WIDTH; v++)
			*(vf *) (out + (size_t) a * stride + v * VF) = sum[a][v];
}

static void
distances(const float *x, int groups, int d, const float *const *q, float *out, size_t stride)
{
	for (int g = 0; g < groups; g++)
		for (int a = 0; a < QLT_QUERIES; a += AT_ONCE)
			for (int v = 0; v < QLT_GROUP; v += WIDTH * VF)
				distances_tile(x + (size_t) g * (size_t) d * QLT_GROUP + v, d, q + a,
							   out + (size_t) a * stride + (size_t) g * QLT_GROUP + v, stride);
}

/* A bit for each lane that is true. */
INLINE unsigned
mask_of(vi less)
{
#if defined(__AVX512F__)
	return _mm512_movepi32_mask((__m512i) less);
#elif defined(__AVX2__)
	return (unsigned) _mm256_movemask_ps((__m256) less);
#else
	unsigned	any = 0;

	for (int v = 0; v < VF; v++)
		any |= (unsigned) (less[v] & 1) << v;
	return any;
#endif
}

/* Which of n distances, a multiple of QLT_GROUP, are below the worst so far. */
static int
below(const float *d, int n, float worst, int32_t *at)
{
	int			found = 0;

	for (int j = 0; j < n; j += VF)
	{
		vi			less = *(const vf *) (d + j) < worst;

		for (unsigned any = mask_of(less); any; any &= any - 1)
			at[found++] = j + __builtin_ctz(any);
	}
	return found;
}

/* The same with a limit for each. */
static int
below_each(const float *d, const float *limit, int n, int32_t *at)
{
	int			found = 0;

	for (int j = 0; j < n; j += VF)
	{
		vi			less = *(const vf *) (d + j) < *(const vf *) (limit + j);

		for (unsigned any = mask_of(less); any; any &= any - 1)
			at[found++] = j + __builtin_ctz(any);
	}
	return found;
}

/* ---- affinities ---- */

/* exp(x) for x <= 0: x = n ln 2 + r, a polynomial for exp(r), and 2^n from bits; relative error below 1e-15. */
INLINE void
exp_double(vd *x)
{
	const double shifter = 6755399441055744.0;	/* 1.5 * 2^52: rounds to an integer */
	vd			v = *x,
				n,
				r,
				p;
	vl			low = v < -708.0,
				bits;

	v = (vd) (((vl) ((vd) {0} - 708.0) & low) | ((vl) v & ~low));
	n = v * 1.4426950408889634 + shifter;
	bits = ((vl) n + 1023) << 52;
	n = n - shifter;
	r = v - n * 0.693147180369123816490;
	r = r - n * 1.90821492927058770002e-10;
	p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
	p = p * r + 1.0 / 39916800.0;
	p = p * r + 1.0 / 3628800.0;
	p = p * r + 1.0 / 362880.0;
	p = p * r + 1.0 / 40320.0;
	p = p * r + 1.0 / 5040.0;
	p = p * r + 1.0 / 720.0;
	p = p * r + 1.0 / 120.0;
	p = p * r + 1.0 / 24.0;
	p = p * r + 1.0 / 6.0;
	p = p * r + 0.5;
	p = p * r + 1.0;
	p = p * r + 1.0;
	*x = p * (vd) bits;
}

static void
affinities(const float *d, int k, double beta, double *p, double *sum, double *sum_pd)
{
	double		s[8] __attribute__((aligned(64))) = {0},
				t[8] __attribute__((aligned(64))) = {0};

	for (int j = 0; j < k; j += 8)
		UNROLL
		for (int h = 0; h < 8; h += VF / 2)
		{
			vd			distance = __builtin_convertvector(*(const vh *) (d + j + h), vd),
						e = distance * -beta;

			exp_double(&e);
			*(vd *) (p + j + h) = e;
			*(vd *) (s + h) = *(vd *) (s + h) + e;
			*(vd *) (t + h) = *(vd *) (t + h) + e * distance;
		}
	*sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
	*sum_pd = ((t[0] + t[4]) + (t[2] + t[6])) + ((t[1] + t[5]) + (t[3] + t[7]));
}

/* ---- forces ---- */

#if defined(__AVX512F__)
#define GATHER(base, at) ((vf) _mm512_i32gather_ps(_mm512_loadu_si512(at), base, 4))
#elif defined(__AVX2__)
#define GATHER(base, at) ((vf) _mm256_i32gather_ps(base, _mm256_loadu_si256((const __m256i *) (at)), 4))
#else
#define GATHER(base, at) ((vf) {(base)[(at)[0]], (base)[(at)[1]], (base)[(at)[2]], (base)[(at)[3]]})
#endif

INLINE void
attract_rows(const qlt_edges *e, const float *y, size_t stride, const int dims, int64_t from, int64_t to, float *force)
{
	for (int64_t i = from; i < to; i++)
	{
		vf			sum[3][PARTS];

		UNROLL
		for (int c = 0; c < dims; c++)
			UNROLL
			for (int h = 0; h < PARTS; h++)
				sum[c][h] = (vf) {0};
		for (int64_t at = e->row[i]; at < e->row[i + 1]; at += QLT_LANES)
			UNROLL
			for (int h = 0; h < PARTS; h++)
			{
				const int32_t *to_point = e->to + at + h * VF;
				vf			square = (vf) {0} + 1.0f,
							off[3],
							pull;

				UNROLL
				for (int c = 0; c < dims; c++)
				{
					off[c] = y[(size_t) c * stride + (size_t) i] - GATHER(y + (size_t) c * stride, to_point);
					square = square + off[c] * off[c];
				}
				pull = *(const vf *) (e->p + at + h * VF) / square;
				UNROLL
				for (int c = 0; c < dims; c++)
					sum[c][h] = sum[c][h] + pull * off[c];
			}
		UNROLL
		for (int c = 0; c < dims; c++)
		{
			float		lane[QLT_LANES] __attribute__((aligned(64)));

			UNROLL
			for (int h = 0; h < PARTS; h++)
				*(vf *) (lane + h * VF) = sum[c][h];
			force[(size_t) c * stride + (size_t) i] = qlt_sum_lanes(lane);
		}
	}
}

static void
attract(const qlt_edges *e, const float *y, size_t stride, int dims, int64_t from, int64_t to, float *force)
{
	if (dims == 2)
		attract_rows(e, y, stride, 2, from, to, force);
	else
		attract_rows(e, y, stride, 3, from, to, force);
}

#define STRETCH	2048			/* sums of float32 are no longer */

INLINE double
repel_row(const float *y, size_t stride, const int dims, int64_t n, int64_t i, float *force)
{
	double		total[4] = {0};

	for (int64_t first = 0; first < n; first += STRETCH)
	{
		int64_t		last = first + STRETCH < n ? first + STRETCH : n;
		vf			sum[4][PARTS];
		float		lane[QLT_LANES] __attribute__((aligned(64)));

		UNROLL
		for (int c = 0; c <= dims; c++)
			UNROLL
			for (int h = 0; h < PARTS; h++)
				sum[c][h] = (vf) {0};
		for (int64_t j = first; j < last; j += QLT_LANES)
			UNROLL
			for (int h = 0; h < PARTS; h++)
			{
				vf			square = (vf) {0} + 1.0f,
							off[3],
							q;

				UNROLL
				for (int c = 0; c < dims; c++)
				{
					off[c] = y[(size_t) c * stride + (size_t) i] - *(const vf *) (y + (size_t) c * stride + j + h * VF);
					square = square + off[c] * off[c];
				}
				q = 1.0f / square;
				sum[dims][h] = sum[dims][h] + q;
				q = q * q;
				UNROLL
				for (int c = 0; c < dims; c++)
					sum[c][h] = sum[c][h] + off[c] * q;
			}
		UNROLL
		for (int c = 0; c <= dims; c++)
		{
			UNROLL
			for (int h = 0; h < PARTS; h++)
				*(vf *) (lane + h * VF) = sum[c][h];
			total[c] += (double) qlt_sum_lanes(lane);
		}
	}
	for (int c = 0; c < dims; c++)
		force[c] = (float) total[c];
	return total[dims];
}

static double
repel(const float *y, size_t stride, int dims, int64_t n, int64_t i, float *force)
{
	return dims == 2 ? repel_row(y, stride, 2, n, i, force) : repel_row(y, stride, 3, n, i, force);
}

/* ---- Fourier transforms ---- */

#define STEP	(2 * QLT_LANES) /* floats of an element: real parts, imaginary parts */

/*
 * Stockham's algorithm, radix 4 and at the end perhaps 2: no reordering, two buffers.  An inverse transform is one
 * with real and imaginary parts exchanged (not divided by n).
 */
INLINE float *
fft_of(float *x, float *y, int n, const float *turn, const int re, const int im)
{
	size_t		s = 1;
	int			whole = n;

	for (; n >= 4; n /= 4, s *= 4)
	{
		size_t		m = (size_t) n / 4;
		float	   *swap;

		for (size_t p = 0; p < m; p++)
		{
			const float *t = turn + 2 * p * (size_t) (whole / n),
					   *t2 = turn + 4 * p * (size_t) (whole / n),
					   *t3 = turn + 6 * p * (size_t) (whole / n);

			for (size_t q = 0; q < s; q++)
				UNROLL
				for (int h = 0; h < QLT_LANES; h += VF)
				{
					const float *a = x + (q + s * p) * STEP + h,
							   *b = a + s * m * STEP,
							   *c = b + s * m * STEP,
							   *d = c + s * m * STEP;
					float	   *o = y + (q + 4 * s * p) * STEP + h;
					vf			pr = *(const vf *) (a + re) + *(const vf *) (c + re),
								pi = *(const vf *) (a + im) + *(const vf *) (c + im),
								mr = *(const vf *) (a + re) - *(const vf *) (c + re),
								mi = *(const vf *) (a + im) - *(const vf *) (c + im),
								qr = *(const vf *) (b + re) + *(const vf *) (d + re),
								qi = *(const vf *) (b + im) + *(const vf *) (d + im),
								jr = *(const vf *) (d + im) - *(const vf *) (b + im),
								ji = *(const vf *) (b + re) - *(const vf *) (d + re),
								ur,
								ui;

					*(vf *) (o + re) = pr + qr;
					*(vf *) (o + im) = pi + qi;
					ur = mr - jr;
					ui = mi - ji;
					o += s * STEP;
					*(vf *) (o + re) = ur * t[0] - ui * t[1];
					*(vf *) (o + im) = ur * t[1] + ui * t[0];
					ur = pr - qr;
					ui = pi - qi;
					o += s * STEP;
					*(vf *) (o + re) = ur * t2[0] - ui * t2[1];
					*(vf *) (o + im) = ur * t2[1] + ui * t2[0];
					ur = mr + jr;
					ui = mi + ji;
					o += s * STEP;
					*(vf *) (o + re) = ur * t3[0] - ui * t3[1];
					*(vf *) (o + im) = ur * t3[1] + ui * t3[0];
				}
		}
		swap = x;
		x = y;
		y = swap;
	}
	if (n == 2)
	{
		for (size_t q = 0; q < s * STEP; q += VF)
		{
			vf			a = *(const vf *) (x + q),
						b = *(const vf *) (x + s * STEP + q);

			*(vf *) (y + q) = a + b;
			*(vf *) (y + s * STEP + q) = a - b;
		}
		return y;
	}
	return x;
}

static float *
fft(float *x, float *scratch, int n, const float *turn, bool inverse)
{
	return inverse ? fft_of(x, scratch, n, turn, QLT_LANES, 0) : fft_of(x, scratch, n, turn, 0, QLT_LANES);
}

/*
 * Lanes are frequencies k0 of one axis, elements those of the other, k1.  table[k1 <= n / 2] holds, a vector each, the
 * multiplier's real part (odd in k1), its imaginary part (odd in k0), and the kernel of the normaliser.
 * plus gets in * multiplier at (k0, k1), minus the same at (-k0, k1), where a real function's spectrum is conj(in[-k1]).
 */
static void
spectrum(const float *in, int n, const float *table, float *plus, float *minus, float *z)
{
	vf			sum[PARTS];

	UNROLL
	for (int h = 0; h < PARTS; h++)
		sum[h] = (vf) {0};
	for (int k = 0; k < n; k++)
	{
		const float *t = table + (size_t) (k <= n / 2 ? k : n - k) * 3 * QLT_LANES,
				   *w = in + (size_t) k * STEP,
				   *u = in + (size_t) ((n - k) % n) * STEP;
		float		sign = k <= n / 2 ? 1.0f : -1.0f;

		UNROLL
		for (int h = 0; h < PARTS; h++)
		{
			vf			wr = *(const vf *) (w + h * VF),
						wi = *(const vf *) (w + QLT_LANES + h * VF),
						ur = *(const vf *) (u + h * VF),
						ui = -*(const vf *) (u + QLT_LANES + h * VF),
						tr = *(const vf *) (t + h * VF) * sign,
						ti = *(const vf *) (t + QLT_LANES + h * VF),
						tz = *(const vf *) (t + 2 * QLT_LANES + h * VF);
			float	   *a = plus + (size_t) k * STEP + h * VF,
					   *b = minus + (size_t) k * STEP + h * VF;

			*(vf *) a = wr * tr - wi * ti;
			*(vf *) (a + QLT_LANES) = wr * ti + wi * tr;
			*(vf *) b = ur * tr + ui * ti;
			*(vf *) (b + QLT_LANES) = ui * tr - ur * ti;
			sum[h] = sum[h] + tz * (wr * wr + wi * wi);
		}
	}
	UNROLL
	for (int h = 0; h < PARTS; h++)
		*(vf *) (z + h * VF) = sum[h];
}

/* ---- cubic splines ---- */

/* Weights of the four nodes about t, and the first of them. */
INLINE int
spline(float t, float *w)
{
	int			node = (int) t;
	float		f = t - (float) node,
				g = 1 - f;

	w[0] = g * g * g * (1.0f / 6);
	w[1] = (4 - f * f * (6 - 3 * f)) * (1.0f / 6);
	w[2] = (4 - g * g * (6 - 3 * g)) * (1.0f / 6);
	w[3] = f * f * f * (1.0f / 6);
	return node - 1;
}

static void
spread(const float *x, const float *y, int64_t n, const float *origin, float scale, float *grid, size_t width)
{
	for (int64_t i = 0; i < n; i++)
	{
		float		a[4],
					b[4];
		int			row = spline((x[i] - origin[0]) * scale, a),
					column = spline((y[i] - origin[1]) * scale, b);
		float	   *to = grid + (size_t) row * width + (size_t) column;
		v4			w = {b[0], b[1], b[2], b[3]};

		UNROLL
		for (int r = 0; r < 4; r++)
			*(v4 *) (to + (size_t) r * width) = *(v4 *) (to + (size_t) r * width) + w * a[r];
	}
}

/* The grid's nodes are pairs: both components of the force. */
static void
gather(const float *x, const float *y, int64_t n, const float *origin, float scale, const float *grid, size_t width,
	   float *fx, float *fy)
{
	for (int64_t i = 0; i < n; i++)
	{
		float		a[4],
					b[4];
		int			row = spline((x[i] - origin[0]) * scale, a),
					column = spline((y[i] - origin[1]) * scale, b);
		const float *from = grid + 2 * ((size_t) row * width + (size_t) column);
		v4			sum[2] = {{0}};

		UNROLL
		for (int r = 0; r < 4; r++)
			UNROLL
			for (int h = 0; h < 2; h++)
				sum[h] = sum[h] + *(const v4 *) (from + 2 * (size_t) r * width + 4 * h) * a[r];
		fx[i] = (sum[0][0] * b[0] + sum[0][2] * b[1]) + (sum[1][0] * b[2] + sum[1][2] * b[3]);
		fy[i] = (sum[0][1] * b[0] + sum[0][3] * b[1]) + (sum[1][1] * b[2] + sum[1][3] * b[3]);
	}
}

const qlt_kernels QLT_KERNELS = {
	.distances = distances,
	.below = below,
	.below_each = below_each,
	.affinities = affinities,
	.attract = attract,
	.repel = repel,
	.fft = fft,
	.spectrum = spectrum,
	.spread = spread,
	.gather = gather,
};
