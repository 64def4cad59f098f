/*
 * kernels_forest.h
 *	  Prediction of forests; part of kernels_impl.h.
 *
 * A row passes the top of a tree, its page of up to 32 leaves (learn_int.h),
 * without walking: all nodes of the page are asked at once.  With many rows a
 * vector holds a feature of several rows, with one row of few features the
 * nodes of the page (kernels_page_row.h).  Most rows of most trees are through then.
 *
 * The others walk: a set of walkers, each a node and a slot, goes down one
 * level at a time; those that reach a leaf leave the set, the others stay
 * packed.  Walkers do not depend on each other, so that the processor
 * overlaps their loads, and no branch depends on data.  With many rows the
 * walkers are a block of rows in one tree, which stays in the first-level
 * cache; with few they are the trees of one row.  Either way a row adds its
 * leaves in the order of the trees: equal bits everywhere.
 */

#define WALKERS		512			/* most at once, and rows of a block */
#define SLACK		16			/* vector stores may pass the end */
#define MOST_NUMBERS	32768	/* floats of a block, 64 rows or more */
#define NEAR_NUMBERS	8192	/* that stay in the first-level cache beside a tree */
#define FEW_CLASSES	8			/* counted by vectors */

/* Fewer rows of d features go one by one: towards the end of a block's walks there are few walkers. */
#if defined(__AVX2__)
#define FEW_ROWS_OF(d)	((d) <= FEW_FEATURES ? 96 : 24)
#else
#define FEW_ROWS_OF(d)	16
#endif

typedef struct walk
{
	uint32_t	node[WALKERS + SLACK];
	uint32_t	slot[WALKERS + SLACK];
	/* those that came to a leaf */
	uint32_t	leaf[WALKERS + SLACK];	/* payload */
	uint32_t	leaf_slot[WALKERS + SLACK];
	/* by slot, when all are through */
	uint32_t	payload[WALKERS + SLACK] __attribute__((aligned(64)));
	int			n,
				n_leaf;
} walk;

/*
 * What walkers ask: feature f of slot s is x[(f << shift) + (s & mask)]; a
 * block of rows stands feature by feature, 1 << shift rows each.
 */
typedef struct asked
{
	const float *x;
	int			shift;
	uint32_t	mask;
	bool		missing;		/* NaN may occur */
} asked;

/* ---- walking ---- */

/* One level down. */
INLINE void
level_scalar(const lrn_model *m, walk *k, const asked *a, const bool missing, const bool wide)
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
		float		x = a->x[((size_t) ((word >> 1) & mask) << a->shift) + (slot & a->mask)],
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
level_vector(const lrn_model *m, walk *k, const asked *a, const bool missing)
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
	const __m512i one = _mm512_set1_epi32(1);
	const __m512i feature_mask = _mm512_set1_epi32((int) ((1u << (m->child_shift - 1)) - 1));
	const __m512i slot_mask = _mm512_set1_epi32((int) a->mask);
	const __m128i child_shift = _mm_cvtsi32_si128(m->child_shift),
				shift = _mm_cvtsi32_si128(a->shift);
	int			kept = 0,
				done = 0;

	for (int i = 0; i < k->n; i += 16)
	{
		__mmask16	live = k->n - i >= 16 ? 0xFFFF : (__mmask16) ((1u << (k->n - i)) - 1);
		__m512i		at = _mm512_maskz_loadu_epi32(live, k->node + i);
		__m512i		slot = _mm512_maskz_loadu_epi32(live, k->slot + i);
		__m512i		lower = _mm512_i32gather_epi64(_mm512_castsi512_si256(at), m->nodes, 8);
		__m512i		higher = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(at, 1), m->nodes, 8);
		__m512i		word = _mm512_permutex2var_epi32(lower, even, higher);
		__m512i		upper = _mm512_permutex2var_epi32(lower, odd, higher);
		__m512i		child = _mm512_srl_epi32(word, child_shift);
		__m512i		feature = _mm512_and_si512(_mm512_srli_epi32(word, 1), feature_mask);
		__m512i		index = _mm512_add_epi32(_mm512_sll_epi32(feature, shift), _mm512_and_si512(slot, slot_mask));
		__m512		x = _mm512_i32gather_ps(index, a->x, 4);
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
level(const lrn_model *m, walk *k, const asked *a)
{
	if (m->wide)
	{
		level_scalar(m, k, a, true, true);
		return;
	}
#if defined(__AVX512F__)
	if (a->missing)
		level_vector(m, k, a, true);
	else
		level_vector(m, k, a, false);
#else
	if (a->missing)
		level_scalar(m, k, a, true, false);
	else
		level_scalar(m, k, a, false, false);
#endif
}

/* All walkers down to their leaves. */
INLINE void
walk_down(const lrn_model *m, walk *k, const asked *a)
{
	while (k->n > 0)
	{
		level(m, k, a);
		for (int i = 0; i < k->n_leaf; i++)
			k->payload[k->leaf_slot[i]] = k->leaf[i];
	}
}

/* ---- what leaves add up to ---- */

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

INLINE double
leaf_value(uint32_t payload)
{
	float		value;

	memcpy(&value, &payload, sizeof(value));
	return (double) value;
}

/* Whether leaves of the model only ever count: sums are exact in any order. */
INLINE bool
only_counts(const lrn_model *m)
{
	return m->n_shares == 0 && m->info.n_classes <= FEW_CLASSES;
}

/* ---- one row ---- */

#if defined(__AVX2__)
/* A row passes the tops of n trees from first on: walkers, and leaves of those that are through. */
INLINE void
tops_of_row(const lrn_model *m, walk *k, const asked *a, uint32_t first, uint32_t n, const bool missing)
{
	const few_features few = few_load(a->x, (uint32_t) m->info.n_features);

	k->n = 0;
	for (uint32_t t = 0; t < n; t += W)
	{
		const lrn_top *p = &m->tops[first + t];
		uint32_t	leaf[W] __attribute__((aligned(64)));
		uint32_t	left = n - t < W ? n - t : W;
		page_bits	cleared[W];

		LRN_UNROLL
		for (uint32_t i = 0; i < W; i++)
		{
			const lrn_top *top = &p[i < left ? i : 0];

			cleared[i] = cleared_by(top->threshold, top->clear, top->feature, top->n_left, &few, missing);
		}
		lowest_left(cleared, leaf);
		for (uint32_t i = 0; i < left; i++)
		{
			k->node[k->n] = k->payload[t + i] = p[i].next[leaf[i]];
			k->slot[k->n] = t + i;
			k->n += !(p[i].through >> leaf[i] & 1);
		}
	}
}
#endif

/* The walkers of a row in n trees from first on. */
INLINE void
start_row(const lrn_model *m, walk *k, const asked *a, uint32_t first, uint32_t n)
{
#if defined(__AVX2__)
	if (m->info.n_features <= FEW_FEATURES)
	{
		if (a->missing)
			tops_of_row(m, k, a, first, n, true);
		else
			tops_of_row(m, k, a, first, n, false);
		return;
	}
#endif
	memcpy(k->node, m->roots + first, n * sizeof(uint32_t));
	for (uint32_t i = 0; i < n; i++)
		k->slot[i] = i;
	k->n = (int) n;
}

/* Votes of n leaves by class; each is LRN_PURE | class. */
INLINE void
count_leaves(walk *k, uint32_t n, int n_classes, float *sum)
{
	memset(k->payload + n, 0, SLACK * sizeof(uint32_t));	/* no class */
	for (int c = 0; c < n_classes; c++)
	{
		vu			votes = {0};
		uint32_t	all = 0;

		for (uint32_t i = 0; i < n; i += W)
			votes -= (vu) (*(const vu *) (k->payload + i) == (LRN_PURE | (uint32_t) c));
		for (int lane = 0; lane < W; lane++)
			all += votes[lane];
		sum[c] += (float) all;
	}
}

/*
 * One row: the walkers are its trees.  Leaves are added to sum[] by class, or,
 * where it is NULL, are values whose sum is returned.
 */
static double
forest_row(const lrn_model *m, walk *k, const float *row, float *sum)
{
	asked		a = {row, 0, 0, false};
	double		value = 0;

	for (int i = 0; i < m->info.n_features; i++)
		a.missing |= row[i] != row[i];
	for (uint32_t first = 0; first < m->n_trees; first += WALKERS)
	{
		uint32_t	n = m->n_trees - first < WALKERS ? m->n_trees - first : WALKERS;

		start_row(m, k, &a, first, n);
		walk_down(m, k, &a);
		if (sum == NULL)
			for (uint32_t i = 0; i < n; i++)
				value += leaf_value(k->payload[i]);
		else if (only_counts(m))
			count_leaves(k, n, m->info.n_classes, sum);
		else
			for (uint32_t i = 0; i < n; i++)
				add_leaf(m, k->payload[i], sum);
	}
	return value;
}

/* ---- a block of rows ---- */

#define TOP_VECTORS	4			/* what is left of them stays in registers */

/* The rows of a block pass the top of a tree. */
INLINE void
top_of_rows(const lrn_top *p, walk *k, const asked *a, int n)
{
	k->n = 0;
	for (int row = 0; row < n; row += TOP_VECTORS * W)
	{
		vu			left[TOP_VECTORS];
		uint32_t	node = 0;

		LRN_UNROLL
		for (int i = 0; i < TOP_VECTORS; i++)
			left[i] = ~(vu) {0};
		for (; node < p->n_left; node++)
		LRN_UNROLL
			for (int i = 0; i < TOP_VECTORS; i++)
				rule_out(&left[i], a->x + ((size_t) p->feature[node] << a->shift) + row + i * W,
						 &p->threshold[node], &p->clear[node], false);
		for (; node < p->n_nodes; node++)
		LRN_UNROLL
			for (int i = 0; i < TOP_VECTORS; i++)
				rule_out(&left[i], a->x + ((size_t) p->feature[node] << a->shift) + row + i * W,
						 &p->threshold[node], &p->clear[node], true);
		LRN_UNROLL
		for (int i = 0; i < TOP_VECTORS; i++)
		{
			int			at = row + i * W;

#if defined(__AVX512F__)
			__m512i		rest = (__m512i) left[i];
			__m512i		lowest = _mm512_and_si512(rest, _mm512_sub_epi32(_mm512_setzero_si512(), rest));
			__m512i		leaf = _mm512_sub_epi32(_mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepu32_ps(lowest)), 23),
												_mm512_set1_epi32(127));
			__m512i		next = _mm512_permutex2var_epi32(_mm512_load_si512(p->next), leaf, _mm512_load_si512(p->next + 16));
			__m512i		slot = _mm512_add_epi32(_mm512_set1_epi32(at),
												_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
			__mmask16	stay = _mm512_testn_epi32_mask(lowest, _mm512_set1_epi32((int) p->through));

			stay &= _mm512_cmplt_epi32_mask(slot, _mm512_set1_epi32(n));
			_mm512_storeu_si512(k->payload + at, next);
			_mm512_storeu_si512(k->node + k->n, _mm512_maskz_compress_epi32(stay, next));
			_mm512_storeu_si512(k->slot + k->n, _mm512_maskz_compress_epi32(stay, slot));
			k->n += __builtin_popcount(stay);
#else
			for (int lane = 0; lane < W; lane++)
			{
				int			leaf = __builtin_ctz(left[i][lane]);

				k->node[k->n] = k->payload[at + lane] = p->next[leaf];
				k->slot[k->n] = (uint32_t) (at + lane);
				k->n += !(p->through >> leaf & 1) & (at + lane < n);
			}
#endif
		}
	}
}

/*
 * Up to 1 << shift rows.  sum: rows x classes; or NULL and value: the sum of
 * a row's leaves.
 */
INLINE void
forest_block(const lrn_model *m, walk *k, const asked *a, int n, float *sum, double *value)
{
	const int	classes = m->info.n_classes;
	const bool	counts = sum && only_counts(m);
	float		count[FEW_CLASSES][WALKERS] __attribute__((aligned(64)));

	if (counts)
		memset(count, 0, sizeof(count[0]) * (size_t) classes);
	for (uint32_t t = 0; t < m->n_trees; t++)
	{
		top_of_rows(&m->tops[t], k, a, n);
		walk_down(m, k, a);
		if (counts)
			for (int c = 0; c < classes; c++)
				for (int i = 0; i < n; i += W)
				{
					vu			mine = (vu) (*(const vu *) (k->payload + i) == (LRN_PURE | (uint32_t) c));
					bvf			one = (bvf) {0} + 1.0f;

					*(bvf *) (count[c] + i) += (bvf) ((vu) one & mine);
				}
		else if (sum)
			for (int i = 0; i < n; i++)
				add_leaf(m, k->payload[i], sum + (size_t) i * (size_t) classes);
		else
			for (int i = 0; i < n; i++)
				value[i] += leaf_value(k->payload[i]);
	}
	if (counts)
		for (int i = 0; i < n; i++)
			for (int c = 0; c < classes; c++)
				sum[i * classes + c] = count[c][i];
}

/* Rows feature by feature, the last one repeated up to whole vectors.  Tells whether a number is missing. */
INLINE bool
turn_rows(const float *rows, int n, int d, int shift, float *x)
{
	const int	whole = TOP_VECTORS * W,
				size = (n + whole - 1) / whole * whole;
	bool		missing = false;

	for (int i = 0; i < size; i++)
	{
		const float *row = rows + (size_t) (i < n ? i : n - 1) * (size_t) d;

		for (int f = 0; f < d; f++)
		{
			missing |= row[f] != row[f];
			x[((size_t) f << shift) + (size_t) i] = row[f];
		}
	}
	return missing;
}

/* As many rows at once as stay near; returns how many.  out: zeros, or values. */
static int
forest_take(const lrn_model *m, walk *k, const float *rows, int64_t n, float *out)
{
	const int	d = m->info.n_features;
	float		x[MOST_NUMBERS] __attribute__((aligned(64)));
	double		value[WALKERS];
	float	   *sum = m->info.task == LRN_REGRESS ? NULL : out;
	asked		a = {x, 6, UINT32_MAX, false};
	int			take;

	while (2 << a.shift <= WALKERS && d << (a.shift + 1) <= NEAR_NUMBERS)
		a.shift++;
	take = n < 1 << a.shift ? (int) n : 1 << a.shift;
	memset(value, 0, (size_t) take * sizeof(double));
	a.missing = turn_rows(rows, take, d, a.shift, x);
	forest_block(m, k, &a, take, sum, value);
	if (sum == NULL)
		for (int i = 0; i < take; i++)
			out[i] = (float) (value[i] / m->n_trees);
	return take;
}

static void
forest_rows(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	const size_t d = (size_t) m->info.n_features,
				outputs = (size_t) m->info.n_outputs;
	const bool	regress = m->info.task == LRN_REGRESS,
				blocks = d << 6 <= MOST_NUMBERS;
	const float n_trees = (float) m->n_trees;
	walk		k;

	if (!regress)
		memset(out, 0, (size_t) n * outputs * sizeof(float));
	for (int64_t i = 0; i < n;)
	{
		const float *row = rows + (size_t) i * d;
		float	   *answer = out + (size_t) i * outputs;

		if (blocks && n - i >= (int64_t) FEW_ROWS_OF(d))
		{
			i += forest_take(m, &k, row, n - i, answer);
			continue;
		}
		if (regress)
			*answer = (float) (forest_row(m, &k, row, NULL) / m->n_trees);
		else
			(void) forest_row(m, &k, row, answer);
		i++;
	}
	if (!regress)
		for (size_t i = 0; i < (size_t) n * outputs; i++)
			out[i] /= n_trees;
}
