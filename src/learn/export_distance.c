/*
 * export_distance.c
 *	  Models of distances as ONNX: nearest neighbours and k-means.
 *
 * Distances of N rows to P points are [N, P], added up feature by feature as the
 * kernels add them: the same float32 sums, so that the same points are near, and
 * never |x|^2 + |z|^2 - 2 xz, which cancels.
 */
#include "learn/export.h"

void
lrn_onnx_coordinates(lrn_export *e, const char *out)
{
	int64_t		d = e->m->info.n_features;

	lrn_onnx_cast(e, "x", "X", MR_ONNX_DOUBLE);
	lrn_onnx_doubles(e, "shift", 1, &d, e->m->shift);
	lrn_onnx_doubles(e, "scale", 1, &d, e->m->scale);
	lrn_onnx_op(e, "Sub", "shifted", "x", "shift", NULL);
	lrn_onnx_op(e, "Mul", out, "shifted", "scale", NULL);
}

/*
 * Few features are nodes of their own; of many, BLOCK go together, [BLOCK, N, P],
 * since the time to load a graph grows with the square of its nodes.
 */
#define FEW		32
#define BLOCK	16

/* What a block of features adds: of the rows, "row_b" [N, 1] or [n, N, 1], against the points. */
static void
put_terms(lrn_export *e, const lrn_onnx_points *p, int b, int n, const void *features, const char *out)
{
	int64_t		shape[3] = {n, 1, p->n};
	bool		alone = e->m->info.n_features <= FEW;
	size_t		size = p->type == MR_ONNX_DOUBLE ? sizeof(double) : sizeof(float);
	lrn_onnx_name row = lrn_onnx_numbered("row", b),
				point = lrn_onnx_numbered("points", b),
				off = lrn_onnx_numbered("off", b);

	mr_onnx_tensor(&e->w, 5, point.s, p->type, alone ? 2 : 3, alone ? shape + 1 : shape, features, (size_t) (n * p->n) * size);
	if (p->metric == LRN_COSINE)
		lrn_onnx_op(e, "Mul", out, row.s, point.s, NULL);
	else
	{
		lrn_onnx_op(e, "Sub", off.s, point.s, row.s, NULL);
		if (p->metric == LRN_EUCLIDEAN)
			lrn_onnx_op(e, "Mul", out, off.s, off.s, NULL);
		else
			lrn_onnx_op(e, "Abs", out, off.s, NULL);
	}
}

/* Terms of block b are added to the sum so far: "sum_b" [N, P] or [1, N, P]. */
static void
put_added(lrn_export *e, int b, const char *terms)
{
	lrn_onnx_name sum = lrn_onnx_numbered("sum", b),
				before = lrn_onnx_numbered("sum", b - 1),
				all = lrn_onnx_numbered("all", b);
	size_t		at;

	if (e->m->info.n_features <= FEW)
	{
		if (b == 0)
			lrn_onnx_op(e, "Identity", sum.s, terms, NULL);
		else
			lrn_onnx_op(e, "Add", sum.s, before.s, terms, NULL);
		return;
	}
	/* a sum over the first axis runs in order, from what was there before */
	if (b > 0)
	{
		at = lrn_onnx_node(e, "Concat", all.s, before.s, terms, NULL);
		mr_onnx_attr_int(&e->w, "axis", 0);
		mr_onnx_end(&e->w, at);
	}
	at = lrn_onnx_node(e, "ReduceSum", sum.s, b > 0 ? all.s : terms, "first_axis", NULL);
	mr_onnx_attr_int(&e->w, "keepdims", 1);
	mr_onnx_end(&e->w, at);
}

/* [N, features] into the rows of blocks. */
static mr_code
put_rows(lrn_export *e, const char *in, int blocks)
{
	const int64_t first = 0,
				last = 2;
	int			d = e->m->info.n_features;
	int64_t    *sizes;

	if (d <= FEW)
	{
		lrn_onnx_split(e, "row", d, in, NULL, 1);
		return MR_OK;
	}
	sizes = mr_alloc(e->env, (size_t) blocks * sizeof(int64_t));
	if (sizes == NULL)
		return lrn_out_of_memory(e->st);
	for (int b = 0; b < blocks; b++)
		sizes[b] = b < blocks - 1 ? BLOCK : d - b * BLOCK;
	lrn_onnx_ints(e, "features_of_blocks", blocks, sizes);
	mr_free(e->env, sizes);
	lrn_onnx_ints(e, "first_axis", 1, &first);
	lrn_onnx_ints(e, "last_axis", 1, &last);
	lrn_onnx_op(e, "Transpose", "features_first", in, NULL);
	lrn_onnx_op(e, "Unsqueeze", "features_apart", "features_first", "last_axis", NULL);
	lrn_onnx_split(e, "row", blocks, "features_apart", "features_of_blocks", 0);
	return MR_OK;
}

mr_code
lrn_onnx_distances(lrn_export *e, const lrn_onnx_points *p, const char *in, const char *out)
{
	int			d = e->m->info.n_features,
				block = d <= FEW ? 1 : BLOCK,
				blocks = (d + block - 1) / block;
	size_t		column = (size_t) p->n * (p->type == MR_ONNX_DOUBLE ? sizeof(double) : sizeof(float));
	uint8_t    *features;
	mr_code		code = put_rows(e, in, blocks);

	if (code)
		return code;
	features = mr_alloc(e->env, column * (size_t) block);
	if (features == NULL)
		return lrn_out_of_memory(e->st);
	for (int b = 0; b < blocks && code == MR_OK; b++)
	{
		int			n = b < blocks - 1 ? block : d - b * block;
		lrn_onnx_name terms = lrn_onnx_numbered("term", b);

		for (int i = 0; i < n && code == MR_OK; i++)
		{
			p->feature(e->m, p->arg, b * block + i, features + column * (size_t) i);
			if (mr_interrupted(e->env))
				code = lrn_canceled(e->st);
		}
		put_terms(e, p, b, n, features, terms.s);
		put_added(e, b, terms.s);
	}
	mr_free(e->env, features);
	if (d <= FEW)
		lrn_onnx_op(e, "Identity", out, lrn_onnx_numbered("sum", blocks - 1).s, NULL);
	else
		lrn_onnx_op(e, "Squeeze", out, lrn_onnx_numbered("sum", blocks - 1).s, "first_axis", NULL);
	return code;
}

/* Sum over axis 1; keep: [N, 1], else without it. */
static void
put_sum(lrn_export *e, const char *in, const char *out, bool keep)
{
	size_t		at = lrn_onnx_node(e, "ReduceSum", out, in, "axis_1", NULL);

	mr_onnx_attr_int(&e->w, "keepdims", keep);
	mr_onnx_end(&e->w, at);
}

static void
put_axis(lrn_export *e)
{
	const int64_t one = 1;

	lrn_onnx_ints(e, "axis_1", 1, &one);
}

/* ---- k-means ---- */

static void
feature_of_centres(const lrn_model *m, const void *arg, int j, void *out)
{
	for (int c = 0; c < m->info.n_outputs; c++)
		((double *) out)[c] = (double) m->weights[(size_t) j * (size_t) m->padded + (size_t) c];
}

mr_code
lrn_kmeans_export(lrn_export *e, const char *out)
{
	const lrn_onnx_points p = {e->m->info.n_outputs, MR_ONNX_DOUBLE, LRN_EUCLIDEAN, feature_of_centres, NULL};
	mr_code		code;

	lrn_onnx_coordinates(e, "coordinates");
	code = lrn_onnx_distances(e, &p, "coordinates", "squares");
	if (code)
		return code;
	lrn_onnx_op(e, "Sqrt", "distances", "squares", NULL);
	lrn_onnx_cast(e, out, "distances", MR_ONNX_FLOAT);
	return MR_OK;
}

/* ---- nearest neighbours ---- */

static void
feature_of_rows(const lrn_model *m, const void *arg, int j, void *out)
{
	size_t		d = (size_t) m->info.n_features;

	for (size_t i = 0; i < m->n_points; i++)
		((float *) out)[i] = m->points[(i / LRN_LANES * d + (size_t) j) * LRN_LANES + i % LRN_LANES];
}

/* Rows of length 1, but for those of length 0. */
static void
put_unit_rows(lrn_export *e, const char *in, const char *out)
{
	lrn_onnx_double(e, "none", 0);
	lrn_onnx_double(e, "unit", 1);
	lrn_onnx_op(e, "Mul", "row_squares", in, in, NULL);
	put_sum(e, "row_squares", "row_square", true);
	lrn_onnx_op(e, "Sqrt", "row_length", "row_square", NULL);
	lrn_onnx_op(e, "Greater", "has_length", "row_square", "none", NULL);
	lrn_onnx_op(e, "Where", "divisor", "has_length", "row_length", "unit", NULL);
	lrn_onnx_op(e, "Div", out, in, "divisor", NULL);
}

/* [N, k] weights that sum to 1, from "nearest" distances (squares if Euclidean). */
static void
put_weights(lrn_export *e, const char *out)
{
	const lrn_model *m = e->m;
	const int64_t first = 0;

	lrn_onnx_cast(e, "nearest_wide", "nearest", MR_ONNX_DOUBLE);
	if (m->metric == LRN_EUCLIDEAN)
		lrn_onnx_op(e, "Sqrt", "far", "nearest_wide", NULL);
	else
		lrn_onnx_op(e, "Identity", "far", "nearest_wide", NULL);
	lrn_onnx_double(e, "nowhere", 0);
	lrn_onnx_double(e, "one", 1);
	if (m->by_distance)
	{
		/* where a point is equal, those that are count and no others */
		lrn_onnx_ints(e, "closest", 1, &first);
		lrn_onnx_op(e, "Equal", "is_equal", "far", "nowhere", NULL);
		lrn_onnx_gather(e, "any_equal", "is_equal", "closest", 1);
		lrn_onnx_cast(e, "equal_ones", "is_equal", MR_ONNX_DOUBLE);
		lrn_onnx_op(e, "Div", "inverse", "one", "far", NULL);
		lrn_onnx_op(e, "Where", "weight", "any_equal", "equal_ones", "inverse", NULL);
	}
	else
	{
		lrn_onnx_op(e, "Mul", "zeros", "far", "nowhere", NULL);
		lrn_onnx_op(e, "Add", "weight", "zeros", "one", NULL);
	}
	put_sum(e, "weight", "weights_sum", true);
	lrn_onnx_op(e, "Div", out, "weight", "weights_sum", NULL);
}

/* Votes of "which" points, [N, k], by "share". */
static mr_code
put_votes(lrn_export *e, const char *out)
{
	const lrn_model *m = e->m;
	int64_t		n = m->n_points,
				classes = m->info.n_classes,
				last = 2;
	size_t		at;

	at = mr_onnx_tensor_begin(&e->w, 5, "targets", MR_ONNX_INT64, 1, &n, (size_t) n * sizeof(int64_t));
	for (int64_t i = 0; i < n; i++)
	{
		int64_t		label = m->labels[i];

		if (i % 65536 == 0 && mr_interrupted(e->env))
			return lrn_canceled(e->st);
		mr_onnx_append(&e->w, &label, sizeof(label));
	}
	mr_onnx_end(&e->w, at);
	at = mr_onnx_tensor_begin(&e->w, 5, "classes", MR_ONNX_INT64, 1, &classes, (size_t) classes * sizeof(int64_t));
	for (int64_t c = 0; c < classes; c++)
		mr_onnx_append(&e->w, &c, sizeof(c));
	mr_onnx_end(&e->w, at);
	lrn_onnx_ints(e, "axis_2", 1, &last);
	lrn_onnx_gather(e, "target", "targets", "which", 0);
	lrn_onnx_op(e, "Unsqueeze", "targets_apart", "target", "axis_2", NULL);
	lrn_onnx_op(e, "Unsqueeze", "shares_apart", "share", "axis_2", NULL);
	lrn_onnx_op(e, "Equal", "is_class", "targets_apart", "classes", NULL);
	lrn_onnx_cast(e, "is_class_1", "is_class", MR_ONNX_DOUBLE);
	lrn_onnx_op(e, "Mul", "votes", "is_class_1", "shares_apart", NULL);
	put_sum(e, "votes", "answer", false);
	lrn_onnx_cast(e, out, "answer", MR_ONNX_FLOAT);
	return MR_OK;
}

mr_code
lrn_knn_export(lrn_export *e, const char *out)
{
	const lrn_model *m = e->m;
	const lrn_onnx_points p = {m->n_points, MR_ONNX_FLOAT, m->metric, feature_of_rows, NULL};
	int64_t		n = m->n_points,
				k = m->n_neighbors;
	const float one = 1;
	size_t		at;
	mr_code		code;

	put_axis(e);
	lrn_onnx_coordinates(e, "coordinates");
	if (m->metric == LRN_COSINE)
		put_unit_rows(e, "coordinates", "units");
	lrn_onnx_cast(e, "query", m->metric == LRN_COSINE ? "units" : "coordinates", MR_ONNX_FLOAT);
	code = lrn_onnx_distances(e, &p, "query", m->metric == LRN_COSINE ? "cosines" : "distances");
	if (code)
		return code;
	if (m->metric == LRN_COSINE)
	{
		lrn_onnx_floats(e, "one_narrow", 0, NULL, &one);
		lrn_onnx_op(e, "Sub", "angles", "one_narrow", "cosines", NULL);
		lrn_onnx_op(e, "Relu", "distances", "angles", NULL);
	}
	/* of equals the earlier point, here as there */
	lrn_onnx_ints(e, "k", 1, &k);
	at = lrn_onnx_node(e, "TopK", "nearest", "distances", "k", NULL);
	mr_onnx_text(&e->w, 2, "which");
	mr_onnx_attr_int(&e->w, "axis", 1);
	mr_onnx_attr_int(&e->w, "largest", 0);
	mr_onnx_attr_int(&e->w, "sorted", 1);
	mr_onnx_end(&e->w, at);
	put_weights(e, "share");
	if (m->info.task == LRN_CLASSIFY)
		return put_votes(e, out);
	lrn_onnx_floats(e, "targets", 1, &n, m->values);
	lrn_onnx_gather(e, "target", "targets", "which", 0);
	lrn_onnx_cast(e, "target_wide", "target", MR_ONNX_DOUBLE);
	lrn_onnx_op(e, "Mul", "parts", "target_wide", "share", NULL);
	put_sum(e, "parts", "answer", true);
	lrn_onnx_cast(e, out, "answer", MR_ONNX_FLOAT);
	return MR_OK;
}
