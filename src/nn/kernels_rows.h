/*
 * kernels_rows.h
 *	  Row-major matrices: the product with packed weights, attention, layer
 *	  normalisation.  Compiled once in each instruction set's file.
 *
 * Tokens are rows.  One tile does all products: mr rows of A times nb blocks of
 * 16 columns of B, whose rows lie ldb floats apart: a panel of a pack, the keys
 * of a head (transposed into scratch), or the values where they are.  Each
 * element is one chain of FMAs in the order of k whatever the tile's size, so a
 * row has the same bits alone and in any batch.
 *
 * Weights are one stream: while a chunk of B is worked through, the tiles ask
 * for the next one, past the end of a panel and of the pack too, where the next
 * layer's weights lie.  With few rows that is what the time depends on.
 */

#define ROWS_BLOCK 112			/* rows of A that stay in L2 for all panels */
#define ROWS_CHUNK 384			/* values of K at a time, whose weights stay near */
#define ROWS_WIDTH (NN_LANES * TILE_NB)
#define ROWS_KU (TILE_NB == 1 ? 2 : 1)	/* values of K a turn: a narrow tile's one is too short for a loop */

typedef struct rows_job
{
	const float *b;
	size_t		ldb;
	int			k;
	size_t		lda,
				ldy,
				ldres;
	const float *bias;			/* start from it; NULL: from what y holds */
	bool		last,			/* add the residual */
				clip;			/* to [lo, hi] */
	float		lo,
				hi;
	const char *ahead,			/* lines of B's next chunk to fetch, */
			   *ahead_end;
	int			ahead_lines;	/* so many every ROWS_KU values of k */
} rows_job;

typedef void (*rows_fn) (const rows_job *j, const float *a, float *y, const float *res);

/* Row i of A by one of few pointers and a multiple of lda that fits an address:
 * the barrier keeps gcc from making a pointer of each row, which would spill. */
#define ROWS_BASE(i) ((i) / 3)
#define ROWS_REST(i) ((size_t) ((i) % 3))

/* One value of K; the pointers go on to the next. */
NN_INLINE void
rows_k(vf *acc, const float **p, size_t lda, const float *b, const int mr, const int nv)
{
	vf			w[TILE_NB * NV_BLOCK];

	NN_UNROLL
	for (int v = 0; v < nv; v++)
		w[v] = vf_load(b + v * VW);
	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		vf			x = vf_set1(p[ROWS_BASE(i)][ROWS_REST(i) * lda]);

		NN_UNROLL
		for (int v = 0; v < nv; v++)
			acc[i * nv + v] = vf_fma(x, w[v], acc[i * nv + v]);
	}
	NN_UNROLL
	for (int g = 0; g <= ROWS_BASE(mr - 1); g++)
	{
		p[g]++;
		__asm__("" : "+r"(p[g]));
	}
	NN_IN_ORDER;
}

NN_INLINE void
rows_run(const rows_job *j, const float *a, float *y, const float *res, const int mr, const int nb)
{
	const int	nv = nb * NV_BLOCK;
	const size_t lda = j->lda,
				ldb = j->ldb;
	const float *b = j->b;
	const char *ahead = j->ahead,
			   *ahead_end = j->ahead_end;
	vf			acc[TILE_MR * TILE_NB * NV_BLOCK];
	const float *p[ROWS_BASE(TILE_MR - 1) + 1];
	int			k = j->k;

	NN_UNROLL
	for (int g = 0; g <= ROWS_BASE(mr - 1); g++)
		p[g] = a + 3 * g * lda;
	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		NN_UNROLL
		for (int v = 0; v < nv; v++)
			acc[i * nv + v] = vf_load(j->bias ? j->bias + v * VW : y + i * j->ldy + v * VW);
	}
	for (; k >= ROWS_KU; k -= ROWS_KU)
	{
		if (ahead < ahead_end)
			for (int i = j->ahead_lines; i > 0; i--, ahead += NN_ALIGN)
				__builtin_prefetch(ahead, 0, 2);
		NN_UNROLL
		for (int u = 0; u < ROWS_KU; u++, b += ldb)
			rows_k(acc, p, lda, b, mr, nv);
	}
	for (; k > 0; k--, b += ldb)
		rows_k(acc, p, lda, b, mr, nv);
	if (j->last && res)
	{
		NN_UNROLL
		for (int i = 0; i < mr; i++)
		{
			NN_UNROLL
			for (int v = 0; v < nv; v++)
				acc[i * nv + v] = acc[i * nv + v] + vf_load(res + i * j->ldres + v * VW);
		}
	}
	if (j->clip)
	{
		vf			lo = vf_set1(j->lo),
					hi = vf_set1(j->hi);

		NN_UNROLL
		for (int i = 0; i < mr * nv; i++)
			acc[i] = vf_min(hi, vf_max(lo, acc[i]));
	}
	NN_UNROLL
	for (int i = 0; i < mr; i++)
	{
		NN_UNROLL
		for (int v = 0; v < nv; v++)
			vf_store(y + i * j->ldy + v * VW, acc[i * nv + v]);
	}
}

#define ROWS(mr, nb) \
static void \
rows_##mr##x##nb(const rows_job *j, const float *a, float *y, const float *res) \
{ \
	rows_run(j, a, y, res, mr, nb); \
}
#if TILE_MR == 14
#define ROWS_LIST(nb) {rows_1x##nb, rows_2x##nb, rows_3x##nb, rows_4x##nb, rows_5x##nb, rows_6x##nb, rows_7x##nb, \
	rows_8x##nb, rows_9x##nb, rows_10x##nb, rows_11x##nb, rows_12x##nb, rows_13x##nb, rows_14x##nb}
#define ROWS_ALL(nb) ROWS(1, nb) ROWS(2, nb) ROWS(3, nb) ROWS(4, nb) ROWS(5, nb) ROWS(6, nb) ROWS(7, nb) \
	ROWS(8, nb) ROWS(9, nb) ROWS(10, nb) ROWS(11, nb) ROWS(12, nb) ROWS(13, nb) ROWS(14, nb)
#elif TILE_MR == 6
#define ROWS_LIST(nb) {rows_1x##nb, rows_2x##nb, rows_3x##nb, rows_4x##nb, rows_5x##nb, rows_6x##nb}
#define ROWS_ALL(nb) ROWS(1, nb) ROWS(2, nb) ROWS(3, nb) ROWS(4, nb) ROWS(5, nb) ROWS(6, nb)
#else
#define ROWS_LIST(nb) {rows_1x##nb, rows_2x##nb, rows_3x##nb}
#define ROWS_ALL(nb) ROWS(1, nb) ROWS(2, nb) ROWS(3, nb)
#endif

ROWS_ALL(1)
#if TILE_NB == 2
ROWS_ALL(2)
#endif

static const rows_fn rows_tile[TILE_NB][TILE_MR] = {
	ROWS_LIST(1),
#if TILE_NB == 2
	ROWS_LIST(2),
#endif
};

/* How many tiles m rows make, and the size of the first *big of them (the rest
 * are one smaller).  8s where they divide: as fast as 14s. */
static int
rows_cut(int m, int *big, int *size)
{
	int			count = TILE_MR >= 8 && m % TILE_MR != 0 && m % 8 == 0 ? m / 8 : (m + TILE_MR - 1) / TILE_MR;

	*size = (m + count - 1) / count;
	*big = m - (*size - 1) * count;
	return count;
}

/* Rows whose pitch is a multiple of 4 KB would fight for one set of L1. */
static size_t
rows_pitch(int k)
{
	size_t		pitch = (size_t) nn_blocks(k) * NN_LANES;

	return pitch % 1024 == 0 ? pitch + NN_LANES : pitch;
}

static bool
rows_copied(size_t lda)
{
	return lda % 1024 == 0;
}

static size_t
gemm_scratch(int m, int k, int n)
{
	(void) n;
	return rows_copied((size_t) k) ? sizeof(float) * rows_pitch(k) * (size_t) (m < ROWS_BLOCK ? m : ROWS_BLOCK) : 0;
}

/* One panel of a pack for mm rows. */
static void
rows_panel(const float *b, const float *bias, int nb, int k, int mm, const float *a, size_t lda, const float *res,
		   size_t ldres, float *y, size_t ldy, float lo, float hi, bool clip, nn_act act)
{
	int			big,
				size,
				count = rows_cut(mm, &big, &size);
	/* Tiles that share the fetching of the next chunk: one block wide all of many,
	 * since a single one of them is too short for so much; wider ones, whose own
	 * chunk does not stay in L1, do it at once. */
	int			fetching = TILE_NB == 1 ? count : count < nb ? count : nb;
	/* equal chunks: each fetches as much as the next one needs */
	int			chunks = (k + ROWS_CHUNK - 1) / ROWS_CHUNK,
				chunk = (k + chunks - 1) / chunks;

	for (int k0 = 0; k0 < k; k0 += chunk)
	{
		int			kc = k - k0 < chunk ? k - k0 : chunk;
		size_t		line = NN_LANES * sizeof(float);
		const char *next = (const char *) (b + (size_t) kc * nb * NN_LANES);
		rows_job	j = {.b = b, .ldb = (size_t) nb * NN_LANES, .k = kc, .lda = lda, .ldy = ldy, .ldres = ldres,
			.bias = k0 ? NULL : bias, .last = k0 + kc == k, .lo = lo, .hi = hi,
		};
		int			blocks = (kc + ROWS_KU - 1) / ROWS_KU;
		int			lines = (kc * nb + fetching - 1) / fetching;

		j.clip = j.last && (lo > -INFINITY || hi < INFINITY);
		j.ahead_lines = (lines + blocks - 1) / blocks;
		nn_translate(next, (size_t) kc * nb * line);
		for (int t = 0, i = 0; t < count; t++)
		{
			int			mr = t < big ? size : size - 1;

			j.ahead = next + (size_t) t * lines * line;
			j.ahead_end = j.ahead + (t < fetching ? (size_t) lines * line : 0);
			rows_tile[nb - 1][mr - 1] (&j, a + (size_t) i * lda + k0, y + (size_t) i * ldy,
									   res ? res + (size_t) i * ldres : NULL);
			i += mr;
		}
		b = (const float *) next;
	}
	/* all rows at once: a tile's few vectors would wait for their own chains */
	if (!clip)
		activate_rows(y, ldy, y, ldy, (size_t) mm, (size_t) nb * NN_LANES, act);
}

static void
gemm(const void *pack, int m, const float *a, size_t lda, const float *res, size_t ldres, float *y, size_t ldy,
	 nn_act act, void *scratch)
{
	const nn_pack *head = pack;
	int			k = head->cin,
				n = head->cout;
	float		lo,
				hi;
	bool		clip = nn_act_is_clip(act, &lo, &hi);
	float		tail[TILE_MR * ROWS_WIDTH] __attribute__((aligned(64)));

	for (int m0 = 0; m0 < m; m0 += ROWS_BLOCK)
	{
		int			mm = m - m0 < ROWS_BLOCK ? m - m0 : ROWS_BLOCK;
		const float *b = nn_pack_weights(pack, n);
		const float *am = a + (size_t) m0 * lda;
		const float *rm = res ? res + (size_t) m0 * ldres : NULL;
		float	   *ym = y + (size_t) m0 * ldy;
		size_t		ld = lda;

		if (rows_copied(lda) && rows_copied((size_t) k))
		{
			ld = rows_pitch(k);
			for (int i = 0; i < mm; i++)
				memcpy((float *) scratch + (size_t) i * ld, am + (size_t) i * lda, sizeof(float) * (size_t) k);
			am = scratch;
		}
		for (int o = 0; o < n; o += ROWS_WIDTH)
		{
			int			width = n - o < ROWS_WIDTH ? n - o : ROWS_WIDTH;
			int			nb = nn_blocks(width);
			const float *bias = nn_pack_bias(pack) + o;

			if (width == nb * NN_LANES)
				rows_panel(b, bias, nb, k, mm, am, ld, rm ? rm + o : NULL, ldres, ym + o, ldy, lo, hi, clip, act);
			else
				/* columns that end within a block: a tile at a time, through tail */
				for (int i = 0; i < mm; i += TILE_MR)
				{
					int			mr = mm - i < TILE_MR ? mm - i : TILE_MR;
					nn_act		none = {nn_act_none, 0, 0};

					rows_panel(b, bias, nb, k, mr, am + (size_t) i * ld, ld, NULL, 0, tail, ROWS_WIDTH,
							   -INFINITY, INFINITY, true, none);
					for (int r = 0; r < mr; r++)
					{
						float	   *to = ym + (size_t) (i + r) * ldy + o;

						for (int c = 0; c < width; c++)
							to[c] = tail[r * ROWS_WIDTH + c] + (rm ? rm[(size_t) (i + r) * ldres + o + c] : 0);
						activate(to, to, (size_t) width, act);
					}
				}
			b += (size_t) k * nb * NN_LANES;
		}
	}
}

/* ---- attention ---- */

static size_t
attend_keys_pitch(const nn_attend *at)
{
	return rows_pitch((at->keys + ROWS_WIDTH - 1) / ROWS_WIDTH * ROWS_WIDTH);
}

/* Keys of a head | values of a head if they are no whole blocks | scores of a tile */
static size_t
attend_scratch(const nn_attend *at)
{
	size_t		keys = (size_t) (at->keys + ROWS_WIDTH - 1) / ROWS_WIDTH * ROWS_WIDTH;
	size_t		values = at->vdim % NN_LANES ? (size_t) at->keys * nn_blocks(at->vdim) * NN_LANES : 0;

	return sizeof(float) * (keys * (size_t) at->dim + values + TILE_MR * attend_keys_pitch(at));
}

/* Panels of keys, transposed: [dim][columns]; the last one may be one block. */
static void
attend_pack_keys(const nn_attend *at, const float *k, float *dst)
{
	for (int j0 = 0; j0 < at->keys; j0 += ROWS_WIDTH)
	{
		int			n = at->keys - j0 < ROWS_WIDTH ? at->keys - j0 : ROWS_WIDTH;
		int			width = nn_blocks(n) * NN_LANES;

		if (n < width)
			memset(dst, 0, sizeof(float) * (size_t) at->dim * (size_t) width);
		for (int j = 0, some; j < n; j += some)
		{
			const float *row = k + (size_t) (j0 + j) * at->k_row;
			int			e = 0;

			some = n - j >= 4 ? 4 : 1;
			for (; some == 4 && e + 4 <= at->dim; e += 4)
				transpose4(row + e, at->k_row, dst + (size_t) e * (size_t) width + j, (size_t) width);
			for (; e < at->dim; e++)
				for (int i = 0; i < some; i++)
					dst[(size_t) e * (size_t) width + (size_t) (j + i)] = row[(size_t) i * at->k_row + (size_t) e];
		}
		dst += (size_t) at->dim * (size_t) width;
	}
}

static void
attend_pack_values(const nn_attend *at, const float *v, float *dst)
{
	size_t		width = (size_t) nn_blocks(at->vdim) * NN_LANES;

	memset(dst, 0, sizeof(float) * (size_t) at->keys * width);
	for (int j = 0; j < at->keys; j++)
		memcpy(dst + (size_t) j * width, v + (size_t) j * at->v_row, sizeof(float) * (size_t) at->vdim);
}

#if VW == 16
#define LANES_SET -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1
#elif VW == 8
#define LANES_SET -1, -1, -1, -1, -1, -1, -1, -1
#else
#define LANES_SET -1, -1, -1, -1
#endif

/* A row of raw scores becomes exp(scale * s + masks - max); returns 1 / sum. */
static float
attend_softmax(const nn_attend *at, float *s, const float *m0, const float *m1)
{
	size_t		n = (size_t) at->keys;
	vf			scale = vf_set1(at->scale);
	vf			top = vf_set1(-INFINITY),
				sum = vf_set1(0);
	float		most,
				total;
	size_t		i = 0;

	for (; i + VW <= n; i += VW)
	{
		vf			x = vf_load(s + i) * scale;

		if (m0)
			x = x + vf_load(m0 + i);
		if (m1)
			x = x + vf_load(m1 + i);
		top = vf_max(top, x);
		vf_store(s + i, x);
	}
	if (i < n)
	{
		/* the block's lanes behind the last key count as -inf */
		static const int32_t lanes[2 * VW] = {LANES_SET};
		vf			x = vf_load(s + i) * scale;

		if (m0)
			x = x + load_part(m0 + i, n - i);
		if (m1)
			x = x + load_part(m1 + i, n - i);
		x = vf_select(vi_load(lanes + VW - (n - i)), x, vf_set1(-INFINITY));
		top = vf_max(top, x);
		vf_store(s + i, x);
	}
	most = vf_top(top);
	top = vf_set1(most);
	for (i = 0; i < n; i += VW)
	{
		vf			e = vf_exp(vf_load(s + i) - top);

		sum = sum + e;
		vf_store(s + i, e);
	}
	total = vf_sum(sum);
	if (at->safe && isnan(total))
	{
		memset(s, 0, sizeof(float) * n);
		return 0;
	}
	return 1 / total;
}

static void
attend(const nn_attend *at, int h, int i0, int i1, const float *q, const float *k, const float *v,
	   const float *const *mask, float *y, void *scratch)
{
	static const float zeros[ROWS_WIDTH] __attribute__((aligned(64)));
	float	   *keys = scratch;
	float	   *values = keys + (size_t) (at->keys + ROWS_WIDTH - 1) / ROWS_WIDTH * ROWS_WIDTH * (size_t) at->dim;
	bool		packed = at->vdim % NN_LANES != 0;
	size_t		vwidth = (size_t) nn_blocks(at->vdim) * NN_LANES;
	float	   *scores = packed ? values + (size_t) at->keys * vwidth : values;
	size_t		pitch = attend_keys_pitch(at);
	float		tail[TILE_MR * ROWS_WIDTH] __attribute__((aligned(64)));
	rows_job	j = {.bias = zeros};

	q += (size_t) h * at->q_head;
	k += (size_t) h * at->k_head;
	v += (size_t) h * at->v_head;
	y += (size_t) h * at->y_head;
	if (i0 == 0)
	{
		attend_pack_keys(at, k, keys);
		if (packed)
			attend_pack_values(at, v, values);
	}
	for (int i = i0; i < i1;)
	{
		int			big,
					size;
		float		inverse[TILE_MR];
		const float *b = keys;

		rows_cut(i1 - i, &big, &size);
		j.k = at->dim;
		j.lda = at->q_row;
		j.ldy = pitch;
		for (int c = 0; c < at->keys; c += ROWS_WIDTH)
		{
			int			nb = nn_blocks(at->keys - c < ROWS_WIDTH ? at->keys - c : ROWS_WIDTH);

			j.b = b;
			j.ldb = (size_t) nb * NN_LANES;
			rows_tile[nb - 1][size - 1] (&j, q + (size_t) i * at->q_row, scores + c, NULL);
			b += (size_t) at->dim * j.ldb;
		}
		for (int r = 0; r < size; r++)
		{
			const float *m[2];

			for (int t = 0; t < 2; t++)
				m[t] = mask[t] ? mask[t] + (size_t) h * at->m_head[t] + (size_t) (i + r) * at->m_row[t] : NULL;
			inverse[r] = attend_softmax(at, scores + (size_t) r * pitch, m[0], m[1]);
		}
		j.k = at->keys;
		j.lda = pitch;
		j.ldb = packed ? vwidth : at->v_row;
		for (int c = 0; c < at->vdim; c += ROWS_WIDTH)
		{
			int			width = at->vdim - c < ROWS_WIDTH ? at->vdim - c : ROWS_WIDTH;
			int			nb = nn_blocks(width);
			float	   *to = y + (size_t) i * at->y_row + c;

			j.b = (packed ? values : v) + c;
			j.ahead = (const char *) j.b;
			j.ldy = ROWS_WIDTH;
			rows_tile[nb - 1][size - 1] (&j, scores, tail, NULL);
			for (int r = 0; r < size; r++, to += at->y_row)
			{
				const float *t = tail + r * ROWS_WIDTH;
				vf			f = vf_set1(inverse[r]);
				int			e = 0;

				for (; e + VW <= width; e += VW)
					vf_store(to + e, vf_load(t + e) * f);
				for (; e < width; e++)
					to[e] = t[e] * inverse[r];
			}
		}
		i += size;
	}
}

/* ---- layer normalisation ---- */

static void
layernorm(const float *x, const float *scale, const float *shift, float *y, size_t rows, size_t n, float eps, bool rms)
{
	size_t		whole = n / VW * VW;

	for (size_t r = 0; r < rows; r++, x += n, y += n)
	{
		vf			s0 = vf_set1(0),
					s1 = vf_set1(0);
		float		mean = 0,
					var = 0,
					f;
		vf			m,
					g;
		size_t		i;

		if (!rms)
		{
			for (i = 0; i + 2 * VW <= n; i += 2 * VW)
			{
				s0 = s0 + vf_load(x + i);
				s1 = s1 + vf_load(x + i + VW);
			}
			if (i < whole)
				s0 = s0 + vf_load(x + i);
			mean = vf_sum(s0 + s1);
			for (i = whole; i < n; i++)
				mean += x[i];
			mean /= (float) n;
		}
		m = vf_set1(mean);
		s0 = s1 = vf_set1(0);
		for (i = 0; i + 2 * VW <= n; i += 2 * VW)
		{
			vf			d0 = vf_load(x + i) - m,
						d1 = vf_load(x + i + VW) - m;

			s0 = vf_fma(d0, d0, s0);
			s1 = vf_fma(d1, d1, s1);
		}
		if (i < whole)
		{
			vf			d = vf_load(x + i) - m;

			s0 = vf_fma(d, d, s0);
		}
		var = vf_sum(s0 + s1);
		for (i = whole; i < n; i++)
			var += (x[i] - mean) * (x[i] - mean);
		f = 1 / sqrtf(var / (float) n + eps);
		g = vf_set1(f);
		for (i = 0; i < whole; i += VW)
		{
			vf			d = (vf_load(x + i) - m) * g * vf_load(scale + i);

			if (shift)
				d = d + vf_load(shift + i);
			vf_store(y + i, d);
		}
		for (; i < n; i++)
			y[i] = (x[i] - mean) * f * scale[i] + (shift ? shift[i] : 0);
	}
}
