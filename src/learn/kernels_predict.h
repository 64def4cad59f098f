/*
 * kernels_predict.h
 *	  Prediction loops of forests and linear models; part of kernels_impl.h.
 *
 * Forests: a set of walkers, each a node and a slot, goes down one level at a
 * time; those that reach a leaf move to a second list, the others stay
 * packed.  Walkers do not depend on each other, so that the processor
 * overlaps their loads, and no branch depends on data.  With many rows the
 * walkers are a block of rows in one tree, which stays in the first-level
 * cache; with few they are the trees of one row.  Either way a row adds its
 * leaves in the order of the trees: equal bits everywhere.
 */

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define WALKERS		512			/* most at once */
#define SLACK		16			/* vector stores may pass the end */

typedef struct walk
{
	uint32_t	node[WALKERS + SLACK];
	uint32_t	slot[WALKERS + SLACK];
	/* those that came to a leaf */
	uint32_t	leaf[WALKERS + SLACK];	/* payload */
	uint32_t	leaf_slot[WALKERS + SLACK];
	int			n,
				n_leaf;
} walk;

/*
 * One level down.  The row of a slot is rows + slot * stride; missing tells
 * whether NaN may occur.
 */
INLINE void
level_scalar(const lrn_model *m, walk *k, const float *rows, uint32_t stride,
			 const bool missing, const bool wide)
{
	const uint64_t *nodes = m->nodes;
	const int	shift = m->child_shift;
	const uint32_t mask = (1u << (shift - 1)) - 1;
	int			n = k->n,
				kept = 0,
				done = 0;

	for (int i = 0; i < n; i++)
	{
		uint32_t	at = k->node[i],
					slot = k->slot[i];
		uint64_t	node = nodes[at];
		uint32_t	word = (uint32_t) node,
					upper = (uint32_t) (node >> 32);
		uint32_t	child = wide ? m->wide[at] : word >> shift;
		bool		is_leaf = child == 0;
		float		x = rows[(size_t) slot * stride + ((word >> 1) & mask)],
					threshold;
		bool		right;

		memcpy(&threshold, &upper, sizeof(threshold));
		right = x > threshold;
		if (missing)
			right |= (x != x) & !(word & 1);
		k->leaf[done] = upper;
		k->leaf_slot[done] = slot;
		done += is_leaf;
		k->node[kept] = child + right;
		k->slot[kept] = slot;
		kept += !is_leaf;
	}
	k->n = kept;
	k->n_leaf = done;
}

#if defined(__AVX512F__)
INLINE void
level_vector(const lrn_model *m, walk *k, const float *rows, uint32_t stride, const bool missing)
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
	const __m512i one = _mm512_set1_epi32(1);
	const __m512i mask = _mm512_set1_epi32((int) ((1u << (m->child_shift - 1)) - 1));
	const __m512i step = _mm512_set1_epi32((int) stride);
	const __m128i shift = _mm_cvtsi32_si128(m->child_shift);
	int			kept = 0,
				done = 0;

	for (int i = 0; i < k->n; i += 16)
	{
		__mmask16	live = k->n - i >= 16 ? 0xFFFF : (__mmask16) ((1u << (k->n - i)) - 1);
		__m512i		at = _mm512_maskz_loadu_epi32(live, k->node + i);
		__m512i		slot = _mm512_maskz_loadu_epi32(live, k->slot + i);
		__m512i		a = _mm512_i32gather_epi64(_mm512_castsi512_si256(at), m->nodes, 8);
		__m512i		b = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(at, 1), m->nodes, 8);
		__m512i		word = _mm512_permutex2var_epi32(a, even, b);
		__m512i		upper = _mm512_permutex2var_epi32(a, odd, b);
		__m512i		child = _mm512_srl_epi32(word, shift);
		__m512i		feature = _mm512_and_si512(_mm512_srli_epi32(word, 1), mask);
		__m512i		index = _mm512_add_epi32(_mm512_mullo_epi32(slot, step), feature);
		__m512		x = _mm512_i32gather_ps(index, rows, 4);
		__mmask16	right = _mm512_cmp_ps_mask(x, _mm512_castsi512_ps(upper), _CMP_GT_OQ);
		__mmask16	leaf = _mm512_mask_testn_epi32_mask(live, child, child);
		__mmask16	stay = (__mmask16) (live & ~leaf);

		if (missing)
			right |= (__mmask16) (_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) &
								  _mm512_testn_epi32_mask(word, one));
		if (leaf)
		{
			_mm512_storeu_si512(k->leaf + done, _mm512_maskz_compress_epi32(leaf, upper));
			_mm512_storeu_si512(k->leaf_slot + done, _mm512_maskz_compress_epi32(leaf, slot));
			done += __builtin_popcount(leaf);
		}
		/* Writes end at kept + 16 <= i + 16: nothing unread is overwritten. */
		child = _mm512_mask_add_epi32(child, right, child, one);
		_mm512_storeu_si512(k->node + kept, _mm512_maskz_compress_epi32(stay, child));
		_mm512_storeu_si512(k->slot + kept, _mm512_maskz_compress_epi32(stay, slot));
		kept += __builtin_popcount(stay);
	}
	k->n = kept;
	k->n_leaf = done;
}
#endif

/*
 * The version for this instruction set; wide forests go the plain way.  AVX2
 * does too: without a compress instruction and with gathers of eight, walking
 * by vectors was 1.4 times slower than the scalar loop (Zen 5), and older
 * processors gather worse.
 */
INLINE void
level(const lrn_model *m, walk *k, const float *rows, uint32_t stride, bool missing)
{
	if (m->wide)
	{
		level_scalar(m, k, rows, stride, true, true);
		return;
	}
#if defined(__AVX512F__)
	if (missing)
		level_vector(m, k, rows, stride, true);
	else
		level_vector(m, k, rows, stride, false);
#else
	if (missing)
		level_scalar(m, k, rows, stride, true, false);
	else
		level_scalar(m, k, rows, stride, false, false);
#endif
}

/* Add a leaf to the sums of a row. */
INLINE void
add_leaf(const lrn_model *m, uint32_t payload, float *sum)
{
	if (payload & LRN_PURE)
		sum[payload & ~LRN_PURE] += 1.0f;
	else
	{
		const lrn_share *s = m->shares + payload;

		for (uint32_t i = 1; i <= s[0].class; i++)
			sum[s[i].class] += s[i].share;
	}
}

static bool
any_missing(const float *rows, size_t n)
{
	bool		found = false;

	for (size_t i = 0; i < n; i++)
		found |= rows[i] != rows[i];
	return found;
}

INLINE double
leaf_value(uint32_t payload)
{
	float		value;

	memcpy(&value, &payload, sizeof(value));
	return (double) value;
}

/*
 * One row: the walkers are its trees.  Leaves are added to sum[] by class, or,
 * where it is NULL, are values whose sum is returned.
 */
static double
forest_row(const lrn_model *m, walk *k, const float *row, bool missing, float *sum)
{
	uint32_t	payload[WALKERS];
	double		value = 0;

	for (uint32_t first = 0; first < m->n_trees; first += WALKERS)
	{
		uint32_t	n = m->n_trees - first < WALKERS ? m->n_trees - first : WALKERS;

		memcpy(k->node, m->roots + first, n * sizeof(uint32_t));
		for (uint32_t i = 0; i < n; i++)
			k->slot[i] = i;
		k->n = (int) n;
		while (k->n > 0)
		{
			level(m, k, row, 0, missing);
			for (int i = 0; i < k->n_leaf; i++)
				payload[k->leaf_slot[i]] = k->leaf[i];
		}
		for (uint32_t i = 0; i < n; i++)
			if (sum)
				add_leaf(m, payload[i], sum);
			else
				value += leaf_value(payload[i]);
	}
	return value;
}

/* A block of rows: the walkers are the rows, tree by tree; sum or values is NULL. */
static void
forest_block(const lrn_model *m, walk *k, const float *rows, int n, bool missing,
			 float *sum, double *values)
{
	for (uint32_t t = 0; t < m->n_trees; t++)
	{
		for (int i = 0; i < n; i++)
		{
			k->node[i] = m->roots[t];
			k->slot[i] = (uint32_t) i;
		}
		k->n = n;
		while (k->n > 0)
		{
			level(m, k, rows, (uint32_t) m->info.n_features, missing);
			if (values)
				for (int i = 0; i < k->n_leaf; i++)
					values[k->leaf_slot[i]] += leaf_value(k->leaf[i]);
			else
				for (int i = 0; i < k->n_leaf; i++)
					add_leaf(m, k->leaf[i], sum + (size_t) k->leaf_slot[i] * (size_t) m->info.n_classes);
		}
	}
}

/*
 * Regression: the mean of the trees' values, summed in double in the order of
 * the trees; walked as classes are.
 */
static void
forest_values(const lrn_model *m, const float *rows, int64_t n, int most, float *out)
{
	size_t		d = (size_t) m->info.n_features;
	walk		k;
	double		sum[WALKERS];

	for (int64_t i = 0; i < n; i += most)
	{
		int			take = n - i < most ? (int) (n - i) : most;
		const float *block = rows + (size_t) i * d;
		bool		missing = any_missing(block, (size_t) take * d);

		memset(sum, 0, (size_t) take * sizeof(double));
		if (take < 16)
			for (int r = 0; r < take; r++)
				sum[r] = forest_row(m, &k, block + (size_t) r * d, missing, NULL);
		else
			forest_block(m, &k, block, take, missing, NULL, sum);
		for (int r = 0; r < take; r++)
			out[i + r] = (float) (sum[r] / m->n_trees);
	}
}

static void
forest_rows(const lrn_model *m, const float *rows, int64_t n, float *proba)
{
	size_t		d = (size_t) m->info.n_features,
				c = (size_t) m->info.n_classes;
	/* Rows of a block stay in the first-level cache beside a tree. */
	int64_t		most = (int64_t) (32768 / (d * sizeof(float)));
	float		n_trees = (float) m->n_trees;
	walk		k;

	most = most < 16 ? 16 : most > WALKERS ? WALKERS : most;
	if (m->info.task == LRN_REGRESS)
	{
		forest_values(m, rows, n, (int) most, proba);
		return;
	}
	memset(proba, 0, (size_t) n * c * sizeof(float));
	for (int64_t i = 0; i < n;)
	{
		int64_t		take = n - i < most ? n - i : most;
		const float *block = rows + (size_t) i * d;
		bool		missing = any_missing(block, (size_t) take * d);

		if (take < 16)
			for (int64_t r = 0; r < take; r++)
				forest_row(m, &k, block + (size_t) r * d, missing, proba + (size_t) (i + r) * c);
		else
			forest_block(m, &k, block, (int) take, missing, proba + (size_t) i * c, NULL);
		i += take;
	}
	for (size_t i = 0; i < (size_t) n * c; i++)
		proba[i] /= n_trees;
}

/* ---- linear models ---- */

/*
 * Eight outputs as the registers of this set hold them: compilers cut wider
 * vectors through memory here.
 */
#if defined(__AVX512F__)
#define HALVES	1
#elif defined(__AVX2__)
#define HALVES	2
#else
#define HALVES	4
#endif
typedef double half __attribute__((vector_size(64 / HALVES), may_alias));
typedef double half_u __attribute__((vector_size(64 / HALVES), aligned(8), may_alias));
typedef float half_f __attribute__((vector_size(32 / HALVES), aligned(4), may_alias));

/*
 * Eight outputs of up to four rows from output o on: bias + sum over features
 * of (x - mean) * weight, in order, in double.
 */
INLINE void
affine(const lrn_model *m, const float *rows, const int n, int o, v8 *out)
{
	int			d = m->info.n_features;
	const float *w = m->weights + o;
	half		sum[4][HALVES];

	for (int r = 0; r < n; r++)
		for (int h = 0; h < HALVES; h++)
			sum[r][h] = ((const half *) (m->bias + o))[h];
	for (int j = 0; j < d; j++, w += m->padded)
	{
		double		mean = m->mean ? (double) m->mean[j] : 0;
		double		x[4];

		for (int r = 0; r < n; r++)
			x[r] = (double) rows[(size_t) r * (size_t) d + (size_t) j] - mean;
		for (int h = 0; h < HALVES; h++)
		{
			half		weight = __builtin_convertvector(((const half_f *) w)[h], half);

			for (int r = 0; r < n; r++)
				sum[r][h] = sum[r][h] + weight * x[r];
		}
	}
	for (int r = 0; r < n; r++)
		for (int h = 0; h < HALVES; h++)
			((half *) &out[r])[h] = sum[r][h];
}

/* Softmax over the k scores of a row; score is padded to eights. */
static void
softmax_row(const double *score, int k, float *out)
{
	double		top = score[0],
				sum = 0;

	for (int c = 1; c < k; c++)
		top = score[c] > top ? score[c] : top;
	/* Two passes with the same exponentials: no scratch for many classes. */
	for (int pass = 0; pass < 2; pass++)
		for (int c = 0; c < k; c += 8)
		{
			v8			e = *(const v8 *) (score + c) - top;

			exp8(&e);
			for (int lane = 0; lane < 8 && c + lane < k; lane++)
				if (pass == 0)
					sum += e[lane];
				else
					out[c + lane] = (float) (e[lane] / sum);
		}
}

#define SCORES	1024			/* padded classes held on the stack */

static void
linear_row_many(const lrn_model *m, const float *row, float *out);

static void
linear_rows(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	size_t		d = (size_t) m->info.n_features;
	int			k = m->info.n_outputs;

	if (m->softmax && m->padded > SCORES)
	{
		for (int64_t i = 0; i < n; i++)
			linear_row_many(m, rows + (size_t) i * d, out + (size_t) i * (size_t) k);
		return;
	}
	for (int64_t i = 0; i < n; i += 4)
	{
		int			take = n - i < 4 ? (int) (n - i) : 4;
		const float *block = rows + (size_t) i * d;
		double		score[4][SCORES] __attribute__((aligned(64)));

		for (int o = 0; o < m->padded; o += 8)
		{
			v8			s[4];

			if (take == 4)
				affine(m, block, 4, o, s);
			else
				for (int r = 0; r < take; r++)
					affine(m, block + (size_t) r * d, 1, o, &s[r]);
			for (int r = 0; r < take; r++)
			{
				if (m->softmax || m->sigmoid)
					*(v8 *) (score[r] + o) = s[r];
				else
					for (int lane = 0; lane < 8 && o + lane < k; lane++)
						out[(size_t) (i + r) * (size_t) k + (size_t) (o + lane)] = (float) s[r][lane];
			}
		}
		for (int r = 0; r < take; r++)
		{
			float	   *p = out + (size_t) (i + r) * (size_t) k;

			if (m->softmax)
				softmax_row(score[r], k, p);
			else if (m->sigmoid)
			{
				double		margin = score[r][0];
				v8			e = (v8) {0} + (margin < 0 ? margin : -margin);
				double		small;

				exp8(&e);
				small = e[0] / (1 + e[0]);
				p[1] = (float) (margin < 0 ? small : 1 / (1 + e[0]));
				p[0] = (float) (margin < 0 ? 1 / (1 + e[0]) : small);
				if (margin != margin)
					p[0] = p[1] = (float) margin;
			}
		}
	}
}

/* More classes than the stack holds: scores are computed once a pass. */
static void
linear_row_many(const lrn_model *m, const float *row, float *out)
{
	int			k = m->info.n_outputs;
	double		top = -INFINITY,
				sum = 0;

	for (int pass = 0; pass < 3; pass++)
		for (int o = 0; o < m->padded; o += 8)
		{
			v8			s;

			affine(m, row, 1, o, &s);
			if (pass == 0)
			{
				for (int lane = 0; lane < 8 && o + lane < k; lane++)
					top = s[lane] > top ? s[lane] : top;
				continue;
			}
			s = s - top;
			exp8(&s);
			for (int lane = 0; lane < 8 && o + lane < k; lane++)
				if (pass == 1)
					sum += s[lane];
				else
					out[o + lane] = (float) (s[lane] / sum);
		}
}
