/*
 * kernels_knn.h
 *	  Nearest neighbours by brute force; part of kernels_impl.h, after
 *	  kernels_cluster.h, whose groups of rows it reads.
 *
 * QUERIES of them at a time meet all points, or one alone.  A distance is a sum over the
 * features in order, in float32; a point enters a query's list if it is nearer
 * than the last one there, so that of equals the earlier stays.
 */

#if defined(__AVX512F__)
#define QUERIES	4
#else
#define QUERIES	2
#endif
#define VECTORS	(LRN_LANES / VF)	/* of a group */

typedef struct neighbours
{
	float		distance[LRN_KNN_MOST]; /* ascending */
	uint32_t	point[LRN_KNN_MOST];
	int			n;				/* found so far, at most k */
	float		worst;			/* a nearer one enters */
} neighbours;

/* The query as the points are: shifted, scaled, of length 1 for the cosine. */
static void
knn_query(const lrn_model *m, const float *row, float *q)
{
	int			d = m->info.n_features;
	double		square = 0;

	for (int j = 0; j < d; j++)
	{
		double		v = ((double) row[j] - m->shift[j]) * m->scale[j];

		q[j] = (float) v;
		square += v * v;
	}
	if (m->metric == LRN_COSINE && square > 0)
	{
		double		length = sqrt(square);

		for (int j = 0; j < d; j++)
			q[j] = (float) (((double) row[j] - m->shift[j]) * m->scale[j] / length);
	}
}

/* Distances (squared ones if Euclidean) of a group of points to n queries, a constant. */
INLINE void
knn_group(const float *x, int d, const int metric, const int n, const float *const *q, vf (*out)[VECTORS])
{
	const vi	positive = (vi) {0} + 0x7FFFFFFF;

	LRN_UNROLL
	for (int a = 0; a < n; a++)
		LRN_UNROLL
		for (int v = 0; v < VECTORS; v++)
			out[a][v] = (vf) {0};
	for (int j = 0; j < d; j++, x += LRN_LANES)
		LRN_UNROLL
		for (int v = 0; v < VECTORS; v++)
		{
			vf			point = *(const vf *) (x + v * VF);

			LRN_UNROLL
			for (int a = 0; a < n; a++)
			{
				vf			off = point - q[a][j];

				if (metric == LRN_EUCLIDEAN)
					out[a][v] = out[a][v] + off * off;
				else if (metric == LRN_MANHATTAN)
					out[a][v] = out[a][v] + (vf) ((vi) off & positive);
				else
					out[a][v] = out[a][v] + point * q[a][j];
			}
		}
	if (metric == LRN_COSINE)
		LRN_UNROLL
		for (int a = 0; a < n; a++)
			LRN_UNROLL
			for (int v = 0; v < VECTORS; v++)
			{
				vf			off = 1 - out[a][v];
				vi			below = off < (vf) {0};

				out[a][v] = (vf) ((vi) off & ~below);
			}
}

INLINE bool
any_below(const vf *v, float worst)
{
#if defined(__AVX512F__)
	__m512		w = _mm512_set1_ps(worst);

	return (_mm512_cmp_ps_mask((__m512) v[0], w, _CMP_LT_OQ) | _mm512_cmp_ps_mask((__m512) v[1], w, _CMP_LT_OQ)) != 0;
#else
	vi			less = (vi) {0};
	int32_t		any = 0;

	for (int i = 0; i < VECTORS; i++)
		less |= v[i] < worst;
	for (int i = 0; i < VF; i++)
		any |= less[i];
	return any != 0;
#endif
}

static void
knn_insert(neighbours *list, int k, float distance, uint32_t point)
{
	int			i = list->n < k ? list->n++ : k - 1;

	for (; i > 0 && list->distance[i - 1] > distance; i--)
	{
		list->distance[i] = list->distance[i - 1];
		list->point[i] = list->point[i - 1];
	}
	list->distance[i] = distance;
	list->point[i] = point;
	if (list->n == k)
		list->worst = list->distance[k - 1];
}

INLINE void
knn_search_by(const lrn_model *m, const int metric, const int queries, const float *const *q, neighbours *list)
{
	size_t		d = (size_t) m->info.n_features;

	for (uint32_t first = 0; first < m->n_points; first += LRN_LANES)
	{
		vf			distance[QUERIES][VECTORS];
		uint32_t	n = m->n_points - first < LRN_LANES ? m->n_points - first : LRN_LANES;

		knn_group(m->points + (size_t) first * d, (int) d, metric, queries, q, distance);
		for (int a = 0; a < queries; a++)
		{
			const float *one = (const float *) distance[a];

			if (!any_below(distance[a], list[a].worst))
				continue;
			for (uint32_t i = 0; i < n; i++)
				if (one[i] < list[a].worst)
					knn_insert(&list[a], m->n_neighbors, one[i], first + i);
		}
	}
}

INLINE void
knn_search(const lrn_model *m, const int queries, const float *const *q, neighbours *list)
{
	if (m->metric == LRN_EUCLIDEAN)
		knn_search_by(m, LRN_EUCLIDEAN, queries, q, list);
	else if (m->metric == LRN_MANHATTAN)
		knn_search_by(m, LRN_MANHATTAN, queries, q, list);
	else
		knn_search_by(m, LRN_COSINE, queries, q, list);
}

/* What the neighbours say: shares of the classes, or the mean of their values. */
static void
knn_vote(const lrn_model *m, const neighbours *list, float *out)
{
	bool		equal = list->n > 0 && list->distance[0] == 0;
	double		total = 0,
				sum = 0;

	memset(out, 0, (size_t) m->info.n_outputs * sizeof(float));
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < list->n; i++)
		{
			double		distance = m->metric == LRN_EUCLIDEAN ? sqrt((double) list->distance[i]) : (double) list->distance[i],
						w = !m->by_distance ? 1 : equal ? distance == 0 : 1 / distance;

			if (pass == 0)
				total += w;
			else if (m->info.task == LRN_CLASSIFY)
				out[m->labels[list->point[i]]] += (float) (w / total);
			else
				sum += w / total * (double) m->values[list->point[i]];
		}
	if (m->info.task == LRN_REGRESS)
		out[0] = (float) sum;
	for (int c = 0; c < m->info.n_outputs && list->n == 0; c++)
		out[c] = NAN;
}

static void
knn_rows(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	float		query[QUERIES][LRN_KNN_FEATURES];
	const float *q[QUERIES];
	neighbours	list[QUERIES];
	size_t		d = (size_t) m->info.n_features;

	for (int a = 0; a < QUERIES; a++)
		q[a] = query[a];
	for (int64_t i = 0; i < n;)
	{
		int			take = n - i < QUERIES ? 1 : QUERIES;

		for (int a = 0; a < take; a++)
		{
			knn_query(m, rows + (size_t) (i + a) * d, query[a]);
			list[a].n = 0;
			list[a].worst = INFINITY;
		}
		if (take == 1)
			knn_search(m, 1, q, list);
		else
			knn_search(m, QUERIES, q, list);
		for (int a = 0; a < take; a++)
			knn_vote(m, &list[a], out + (size_t) (i + a) * (size_t) m->info.n_outputs);
		i += take;
	}
}
