/*
 * kernels_pages.h
 *	  Prediction of gradient boosting (pages: boost_file.h); part of
 *	  kernels_impl.h.
 *
 * With many rows a vector holds one feature of several rows, and all nodes of
 * a page are asked of it in turn: no gathers, no branches on data.  With few
 * rows a vector holds the nodes of a page (kernels_page_row.h), or several
 * trees walk side by side.  A margin adds its trees in order either way: equal bits.
 */
#include "learn/boost_file.h"

#define MOST_BLOCK	64			/* rows of a block */
#define MOST_X		8192		/* floats of a block */
#define MOST_PAGES	64			/* of a tree in blocks */
#if defined(__AVX2__)
#define FEW_ROWS	8			/* fewer go one by one */
#else
#define FEW_ROWS	5
#endif

/* The features a model uses of a row; categories become their numbers. */
INLINE float
feature_of(const lrn_model *m, uint32_t i, const float *row)
{
	const boost_used *u = &m->used[i];
	float		x = row[u->feature];

	if (u->n_categories == 0)
		return x;
	if (x != x)
		return (float) u->missing;
	return x >= 0 && x < (float) u->n_categories ? (float) m->map[u->map + (uint32_t) x] : BOOST_UNKNOWN;
}

INLINE bool
in_set(const lrn_model *m, const boost_page *p, uint32_t k, float x)
{
	uint32_t	number = (uint32_t) x;

	return m->sets[p->set + k - p->n_numbers][number >> 5] >> (number & 31) & 1;
}

/* The page a leaf stands for, or NULL. */
INLINE const boost_page *
page_behind(const lrn_model *m, const boost_page *p, uint32_t leaf)
{
	for (uint32_t i = 0; i < p->n_links; i++)
		if (m->links[p->link + i].leaf == leaf)
			return &m->pages[m->links[p->link + i].page];
	return NULL;
}

/* ---- one row ---- */

#if defined(__AVX2__)
/* Trees of one page, numbers only, few features: W at once. */
INLINE float
margin_of_pages(const lrn_model *m, const float *x, uint32_t first, uint32_t step, const bool missing)
{
	const few_features few = few_load(x, m->n_used);
	float		sum = 0;

	for (uint32_t t = first; t < m->n_trees; t += W * step)
	{
		uint32_t	leaf[W] __attribute__((aligned(64)));
		uint32_t	n = (m->n_trees - t + step - 1) / step;
		page_bits	cleared[W];

		LRN_UNROLL
		for (uint32_t i = 0; i < W; i++)
		{
			const boost_page *p = &m->pages[i < n ? t + i * step : t];

			cleared[i] = cleared_by(p->threshold, p->clear, p->feature, p->n_left, &few, missing);
		}
		lowest_left(cleared, leaf);
		for (uint32_t i = 0; i < (n < W ? n : W); i++)
			sum += m->pages[t + i * step].value[leaf[i]];
	}
	return sum;
}

INLINE bool
one_page_each(const lrn_model *m)
{
	return m->n_used <= FEW_FEATURES && m->n_sets == 0 && m->n_pages == m->n_trees;
}
#endif

#if defined(__AVX512F__)

/* A page's leaf, whatever its nodes are. */
INLINE uint32_t
leaf_of(const lrn_model *m, const boost_page *p, const float *x)
{
	uint32_t	numbers = (uint32_t) (((uint64_t) 1 << p->n_numbers) - 1),
				missing_right = numbers & ~(uint32_t) (((uint64_t) 1 << p->n_left) - 1);
	__m512i		out = _mm512_setzero_si512();
	uint32_t	cleared;

	for (int half = 0; half < 2; half++)
	{
		__m512i		feature = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *) (p->feature + 16 * half)));
		__m512		v = _mm512_i32gather_ps(feature, x, 4);
		__mmask16	right = _mm512_mask_cmp_ps_mask((__mmask16) (numbers >> (16 * half)), v,
													_mm512_load_ps(p->threshold + 16 * half), _CMP_GT_OQ);

		right |= _mm512_mask_cmp_ps_mask((__mmask16) (missing_right >> (16 * half)), v, v, _CMP_UNORD_Q);
		out = _mm512_mask_or_epi32(out, right, out, _mm512_load_si512(p->clear + 16 * half));
		if (p->n_nodes <= 16)
			break;
	}
	cleared = (uint32_t) _mm512_reduce_or_epi32(out);
	for (uint32_t k = p->n_numbers; k < p->n_nodes; k++)
		if (!in_set(m, p, k, x[p->feature[k]]))
			cleared |= p->clear[k];
	return (uint32_t) __builtin_ctzll(~(uint64_t) cleared) & (BOOST_PAGE - 1);
}

/* Leaf values of margin first, and then every step-th tree, added up. */
static float
margin_by_pages(const lrn_model *m, const float *x, uint32_t first, uint32_t step)
{
	float		sum = 0;

	for (uint32_t t = first; t < m->n_trees; t += step)
	{
		const boost_page *p = &m->pages[m->roots[t + 1] - 1],
				   *next;
		uint32_t	leaf;

		for (;;)
		{
			leaf = leaf_of(m, p, x);
			if (p->n_links == 0 || (next = page_behind(m, p, leaf)) == NULL)
				break;
			p = next;
		}
		sum += p->value[leaf];
	}
	return sum;
}

#else

#define WALKS	8				/* trees that walk side by side */

/* One step of a walk; at is a node, or BOOST_PAGE + a leaf and stays. */
INLINE uint32_t
step_down(const lrn_model *m, const boost_page *p, uint32_t at, const float *x, const bool sets)
{
	uint32_t	k = at & (BOOST_PAGE - 1);
	float		v = x[p->feature[k]];
	bool		right = (v > p->threshold[k]) | ((v != v) & (k >= p->n_left));

	if (sets && k >= p->n_numbers && at < p->n_nodes)
		right = !in_set(m, p, k, v);
	return at < BOOST_PAGE ? p->child[k][right] : at;
}

/* Leaf values of margin first, and then every step-th tree, added up. */
static float
margin_by_pages(const lrn_model *m, const float *x, uint32_t first, uint32_t step)
{
	const bool	sets = m->n_sets > 0;
	float		sum = 0;

	for (uint32_t t = first; t < m->n_trees; t += WALKS * step)
	{
		const boost_page *p[WALKS];
		uint32_t	at[WALKS],
					all;
		uint32_t	n = 0;

		for (; n < WALKS && t + n * step < m->n_trees; n++)
		{
			p[n] = &m->pages[m->roots[t + n * step + 1] - 1];
			at[n] = p[n]->root;
		}
		for (uint32_t i = n; i < WALKS; i++)
		{
			p[i] = p[0];
			at[i] = BOOST_PAGE;
		}
		do
		{
			all = BOOST_PAGE;
			for (int i = 0; i < WALKS; i++)
			{
				at[i] = sets ? step_down(m, p[i], at[i], x, true) : step_down(m, p[i], at[i], x, false);
				all &= at[i];
			}
			for (int i = 0; all && i < WALKS; i++)
			{
				const boost_page *next = page_behind(m, p[i], at[i] - BOOST_PAGE);

				if (next == NULL || (uint32_t) i >= n)
					continue;
				p[i] = next;
				at[i] = next->root;
				all &= at[i];
			}
		} while (!all);
		for (uint32_t i = 0; i < n; i++)
			sum += p[i]->value[at[i] - BOOST_PAGE];
	}
	return sum;
}

#endif

/* The same, the fastest way there is. */
static float
margin_of_row(const lrn_model *m, const float *x, uint32_t first, uint32_t step)
{
#if defined(__AVX2__)
	if (one_page_each(m))
	{
		bool		missing = false;

		for (uint32_t i = 0; i < m->n_used; i++)
			missing |= x[i] != x[i];
		return missing ? margin_of_pages(m, x, first, step, true) : margin_of_pages(m, x, first, step, false);
	}
#endif
	return margin_by_pages(m, x, first, step);
}

/* ---- a block of rows ---- */

/* Leaves that nodes rule out: those of clear where x > threshold, or, missing right, where not <=. */
INLINE void
rule_out(vu *left, const float *x, const float *threshold, const uint32_t *clear, const bool missing_right)
{
#if defined(__AVX512F__)
	__m512		v = _mm512_loadu_ps(x),
				t = _mm512_set1_ps(*threshold);
	__mmask16	right = missing_right ? _mm512_cmp_ps_mask(v, t, _CMP_NLE_UQ) : _mm512_cmp_ps_mask(v, t, _CMP_GT_OQ);

	*left = (vu) _mm512_mask_andnot_epi32((__m512i) *left, right, _mm512_set1_epi32((int) *clear), (__m512i) *left);
#else
	bvf			v = *(const vfu *) x;
	vu			right = missing_right ? (vu) ~(v <= *threshold) : (vu) (v > *threshold);

	*left &= ~(right & *clear);
#endif
}

/* The same by a set of categories. */
INLINE void
rule_out_set(vu *left, const float *x, const uint32_t *set, uint32_t clear)
{
#if defined(__AVX512F__)
	__m512i		number = _mm512_cvttps_epi32(_mm512_loadu_ps(x));
	__m512i		words = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) set));
	__m512i		word = _mm512_permutexvar_epi32(_mm512_srli_epi32(number, 5), words);
	__m512i		bit = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512(number, _mm512_set1_epi32(31)));

	*left = (vu) _mm512_mask_andnot_epi32((__m512i) *left, _mm512_testn_epi32_mask(word, bit),
										  _mm512_set1_epi32((int) clear), (__m512i) *left);
#else
	for (int lane = 0; lane < W; lane++)
	{
		uint32_t	number = (uint32_t) x[lane];

		if (!(set[number >> 5] >> (number & 31) & 1))
			(*left)[lane] &= ~clear;
	}
#endif
}

/* Number of the lowest bit and the value of that leaf. */
INLINE void
value_of_leaves(const boost_page *p, const vu *left, bvi *leaf, bvf *value)
{
	bvi			lowest = (bvi) (*left & -*left);
	bvi			bits = (bvi) __builtin_convertvector(lowest, bvf);

	*leaf = (((bits >> 23) & 255) - 127) & (BOOST_PAGE - 1);
#if defined(__AVX512F__)
	*value = (bvf) _mm512_permutex2var_ps(_mm512_load_ps(p->value), (__m512i) *leaf, _mm512_load_ps(p->value + 16));
#elif defined(__AVX2__)
	*value = (bvf) _mm256_i32gather_ps(p->value, (__m256i) *leaf, 4);
#else
	for (int lane = 0; lane < W; lane++)
		(*value)[lane] = p->value[(*leaf)[lane]];
#endif
}

/*
 * A page of size rows, x[feature][row], vectors vectors at a time: few enough
 * that what is left of them stays in registers.  below: values of the tree's
 * earlier pages, below[page - first][row].
 */
INLINE void
page_of_rows(const lrn_model *m, const boost_page *p, uint32_t first, const float *x,
			 const int size, const int vectors, const float *below, float *value)
{
	for (int row = 0; row < size; row += vectors * W)
	{
		vu			left[4];
		uint32_t	k = 0;

LRN_UNROLL
		for (int i = 0; i < vectors; i++)
			left[i] = ~(vu) {0};
		for (; k < p->n_left; k++)
LRN_UNROLL
			for (int i = 0; i < vectors; i++)
				rule_out(&left[i], x + p->feature[k] * size + row + i * W, &p->threshold[k], &p->clear[k], false);
		for (; k < p->n_numbers; k++)
LRN_UNROLL
			for (int i = 0; i < vectors; i++)
				rule_out(&left[i], x + p->feature[k] * size + row + i * W, &p->threshold[k], &p->clear[k], true);
		for (; k < p->n_nodes; k++)
LRN_UNROLL
			for (int i = 0; i < vectors; i++)
				rule_out_set(&left[i], x + p->feature[k] * size + row + i * W,
							 m->sets[p->set + k - p->n_numbers], p->clear[k]);
LRN_UNROLL
		for (int i = 0; i < vectors; i++)
		{
			bvi			leaf;
			bvf			v;

			value_of_leaves(p, &left[i], &leaf, &v);
			for (uint32_t l = 0; l < p->n_links; l++)
			{
				const boost_link *link = &m->links[p->link + l];
				bvi			here = leaf == (int32_t) link->leaf;
				bvf			other = *(const vfu *) (below + (size_t) (link->page - first) * (size_t) size + row + i * W);

				v = (bvf) (((bvi) other & here) | ((bvi) v & ~here));
			}
			*(vfu *) (value + row + i * W) = v;
		}
	}
}

/* n rows of at most size; size is a constant where it is called. */
INLINE void
block_of_rows(const lrn_model *m, const float *rows, int n, const int size, const int vectors, float *out)
{
	uint32_t	step = (uint32_t) boost_margins(&m->info);
	size_t		d = (size_t) m->info.n_features,
				k = (size_t) m->info.n_outputs;
	float		x[MOST_X] __attribute__((aligned(64)));
	float		below[MOST_PAGES * MOST_BLOCK] __attribute__((aligned(64)));

	for (uint32_t f = 0; f < m->n_used; f++)
		for (int i = 0; i < size; i++)
			x[f * (uint32_t) size + (uint32_t) i] = feature_of(m, f, rows + (size_t) (i < n ? i : n - 1) * d);
	for (uint32_t margin = 0; margin < step; margin++)
	{
		float		sum[MOST_BLOCK] __attribute__((aligned(64)));

		memset(sum, 0, sizeof(sum));
		for (uint32_t t = margin; t < m->n_trees; t += step)
		{
			uint32_t	first = m->roots[t],
						last = m->roots[t + 1] - 1;
			float	   *value = below;

			for (uint32_t at = first; at <= last; at++)
			{
				value = below + (size_t) (at - first) * (size_t) size;
				page_of_rows(m, &m->pages[at], first, x, size, vectors, below, value);
			}
			for (int i = 0; i < size; i += W)
				*(bvf *) (sum + i) = *(bvf *) (sum + i) + *(const vfu *) (value + i);
		}
		for (int i = 0; i < n; i++)
			out[(size_t) i * k + margin] = sum[i];
	}
}

/* ---- margins to answers ---- */

INLINE void
answer_row(const lrn_model *m, float *out)
{
	int			k = m->info.n_outputs;
	float		top;
	double		sum = 0;
	v8			powers;

	if (m->info.task == LRN_REGRESS)
	{
		out[0] = (float) (m->bias[0] + (double) out[0]);
		return;
	}
	if (k == 2)
	{
		float		margin = out[0] + (float) m->bias[0];
		v8			e = (v8) {0} + (double) (margin < 0 ? margin : -margin);
		double		small;

		exp8(&e);
		small = e[0] / (1 + e[0]);
		out[1] = (float) (margin < 0 ? small : 1 / (1 + e[0]));
		out[0] = (float) (margin < 0 ? 1 / (1 + e[0]) : small);
		return;
	}
	for (int c = 0; c < k; c++)
		out[c] += (float) m->bias[c];
	top = out[0];
	for (int c = 1; c < k; c++)
		top = out[c] > top ? out[c] : top;
	for (int pass = 0; pass < 2; pass++)
		for (int c = 0; c < k; c += 8)
		{
			if (pass == 0 || k > 8)
			{
				powers = (v8) {0};
				for (int lane = 0; lane < 8 && c + lane < k; lane++)
					powers[lane] = (double) (out[c + lane] - top);
				exp8(&powers);
			}
			for (int lane = 0; lane < 8 && c + lane < k; lane++)
				if (pass == 0)
					sum += powers[lane];
				else
					out[c + lane] = (float) (powers[lane] / sum);
		}
}

INLINE void
one_row(const lrn_model *m, const float *row, float *x, float *out)
{
	uint32_t	step = (uint32_t) boost_margins(&m->info);

	for (uint32_t f = 0; f < m->n_used; f++)
		x[f] = feature_of(m, f, row);
	for (uint32_t margin = 0; margin < step; margin++)
		out[margin] = margin_of_row(m, x, margin, step);
}

/* More features than a block holds. */
static __attribute__((noinline)) void
wide_row(const lrn_model *m, const float *row, float *out)
{
	float		x[LRN_MAX_FEATURES + 16];

	one_row(m, row, x, out);
}

static void
boost_rows(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	size_t		d = (size_t) m->info.n_features,
				k = (size_t) m->info.n_outputs;
	bool		blocks = m->most_pages <= MOST_PAGES;

	for (int64_t i = 0; i < n;)
	{
		const float *row = rows + (size_t) i * d;
		float	   *answer = out + (size_t) i * k;
		int			take = 1;

		if (blocks && n - i >= 48 && m->n_used <= MOST_X / MOST_BLOCK)
		{
			take = n - i < MOST_BLOCK ? (int) (n - i) : MOST_BLOCK;
			block_of_rows(m, row, take, MOST_BLOCK, 4, answer);
		}
		else if (blocks && n - i >= FEW_ROWS && m->n_used <= MOST_X / 16)
		{
			take = n - i < 16 ? (int) (n - i) : 16;
			block_of_rows(m, row, take, 16, 16 / W, answer);
		}
		else if (m->n_used <= MOST_X / 16)
		{
			float		x[MOST_X / 16 + 16] __attribute__((aligned(64)));

			one_row(m, row, x, answer);
		}
		else
			wide_row(m, row, answer);
		for (int r = 0; r < take; r++)
			answer_row(m, answer + (size_t) r * k);
		i += take;
	}
}
