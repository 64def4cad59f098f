/*
 * export_svm.c
 *	  RBF machines as ONNX, as kernels_svm.h computes them: what the vectors of
 *	  each class say against each other class, then a border for each pair.
 */
#include "learn/export.h"

#include <string.h>

/* The support vectors as lanes of the tiles; -1 stands for the missing one of a
 * class that has none. */
typedef struct vectors
{
	int64_t    *lane;
	int64_t		n;
	int64_t		first[LRN_SVM_CLASSES + 1]; /* of each class */
} vectors;

static float
coefficient(const lrn_model *m, int64_t lane, int other)
{
	int64_t		others = m->info.n_classes - 1;

	return lane < 0 ? 0 : m->svm.coef[(lane / LRN_TILE * others + other) * LRN_TILE + lane % LRN_TILE];
}

/* Lanes that only fill a tile say nothing. */
static mr_code
find_vectors(lrn_export *e, vectors *v)
{
	const lrn_model *m = e->m;
	int			k = m->info.n_classes;
	size_t		most = (size_t) m->svm.first_tile[k] * LRN_TILE + (size_t) k;

	v->lane = mr_alloc(e->env, most * sizeof(int64_t));
	if (v->lane == NULL)
		return lrn_out_of_memory(e->st);
	v->n = 0;
	for (int a = 0; a < k; a++)
	{
		v->first[a] = v->n;
		for (int64_t lane = (int64_t) m->svm.first_tile[a] * LRN_TILE; lane < (int64_t) m->svm.first_tile[a + 1] * LRN_TILE; lane++)
			for (int o = 0; o < k - 1; o++)
				if (coefficient(m, lane, o) != 0)
				{
					v->lane[v->n++] = lane;
					break;
				}
		if (v->n == v->first[a])
			v->lane[v->n++] = -1;
	}
	v->first[k] = v->n;
	return MR_OK;
}

static void
feature_of_vectors(const lrn_model *m, const void *arg, int j, void *out)
{
	const vectors *v = arg;

	for (int64_t i = 0; i < v->n; i++)
	{
		int64_t		lane = v->lane[i];

		((float *) out)[i] = lane < 0 ? 0 :
			m->svm.tiles[(lane / LRN_TILE * m->info.n_features + j) * LRN_TILE + lane % LRN_TILE];
	}
}

/*
 * 2^-squares by the polynomial of kernels_svm.h in float32, bit for bit: where an
 * isotonic map is steep, more would show.
 */
static void
put_powers(lrn_export *e, const char *squares, const char *out)
{
	static const float polynomial[] = {
		0.00132647273f, 0.00967151299f, 0.0555073358f, 0.240222424f, 0.693147004f, 1.0f
	};
	const float most = 126,		/* 2^-126 is still normal */
				two = 2;
	lrn_onnx_name sum = lrn_onnx_numbered("polynomial", 0);

	lrn_onnx_floats(e, "most", 0, NULL, &most);
	lrn_onnx_floats(e, "two", 0, NULL, &two);
	lrn_onnx_op(e, "Min", "held", squares, "most", NULL);
	lrn_onnx_op(e, "Round", "whole", "held", NULL);
	lrn_onnx_op(e, "Sub", "rest", "whole", "held", NULL);
	lrn_onnx_floats(e, sum.s, 0, NULL, &polynomial[0]);
	for (int i = 1; i < 6; i++)
	{
		lrn_onnx_name product = lrn_onnx_numbered("product", i),
					next = lrn_onnx_numbered("coefficient", i);

		lrn_onnx_op(e, "Mul", product.s, sum.s, "rest", NULL);
		lrn_onnx_floats(e, next.s, 0, NULL, &polynomial[i]);
		sum = lrn_onnx_numbered("polynomial", i);
		lrn_onnx_op(e, "Add", sum.s, product.s, next.s, NULL);
	}
	lrn_onnx_op(e, "Pow", "power", "two", "whole", NULL);
	lrn_onnx_op(e, "Div", out, sum.s, "power", NULL);
}

/* Kernels of each class: "kernel_0" [N, 1, its vectors], ... */
static void
put_kernels(lrn_export *e, const vectors *v)
{
	const int64_t axis = 1;
	int			k = e->m->info.n_classes;
	int64_t		count[LRN_SVM_CLASSES];

	for (int a = 0; a < k; a++)
		count[a] = v->first[a + 1] - v->first[a];
	lrn_onnx_ints(e, "vectors_of_classes", k, count);
	lrn_onnx_ints(e, "axis_1", 1, &axis);
	lrn_onnx_op(e, "Unsqueeze", "kernels_apart", "kernels", "axis_1", NULL);
	lrn_onnx_split(e, "kernel", k, "kernels_apart", "vectors_of_classes", 2);
}

/* What class a says against each other: "said_a" [N, k - 1], products in float32, sums in double. */
static void
put_sum(lrn_export *e, const vectors *v, int a)
{
	int			others = e->m->info.n_classes - 1;
	int64_t		shape[2] = {others, v->first[a + 1] - v->first[a]};
	lrn_onnx_name coef = lrn_onnx_numbered("coef", a),
				product = lrn_onnx_numbered("weighed", a),
				wide = lrn_onnx_numbered("weighed_wide", a);
	size_t		at;

	at = mr_onnx_tensor_begin(&e->w, 5, coef.s, MR_ONNX_FLOAT, 2, shape, (size_t) (shape[0] * shape[1]) * sizeof(float));
	for (int o = 0; o < others; o++)
		for (int64_t i = v->first[a]; i < v->first[a + 1]; i++)
		{
			float		c = coefficient(e->m, v->lane[i], o);

			mr_onnx_append(&e->w, &c, sizeof(c));
		}
	mr_onnx_end(&e->w, at);
	lrn_onnx_op(e, "Mul", product.s, lrn_onnx_numbered("kernel", a).s, coef.s, NULL);
	lrn_onnx_cast(e, wide.s, product.s, MR_ONNX_DOUBLE);
	at = lrn_onnx_node(e, "ReduceSum", lrn_onnx_numbered("said", a).s, wide.s, "axis_2", NULL);
	mr_onnx_attr_int(&e->w, "keepdims", 0);
	mr_onnx_end(&e->w, at);
}

/* What all classes say, in order: "said" [N, k (k - 1)]. */
static mr_code
put_sums(lrn_export *e, const vectors *v)
{
	const int64_t last = 2;
	int			k = e->m->info.n_classes;

	lrn_onnx_ints(e, "axis_2", 1, &last);
	for (int a = 0; a < k; a++)
	{
		if (mr_interrupted(e->env))
			return lrn_canceled(e->st);
		put_sum(e, v, a);
	}
	lrn_onnx_join(e, "said", "said", k);
	return MR_OK;
}

/* "borders" [N, pairs]: what both classes of a pair say, less its rho. */
static mr_code
put_borders(lrn_export *e)
{
	int			k = e->m->info.n_classes;
	int64_t		pairs = (int64_t) k * (k - 1) / 2,
			   *first = mr_alloc(e->env, 2 * (size_t) pairs * sizeof(int64_t)),
			   *second = first + pairs;
	int64_t		n = 0;

	if (first == NULL)
		return lrn_out_of_memory(e->st);
	for (int a = 0; a < k; a++)
		for (int b = a + 1; b < k; b++, n++)
		{
			first[n] = (int64_t) a * (k - 1) + b - 1;
			second[n] = (int64_t) b * (k - 1) + a;
		}
	lrn_onnx_ints(e, "firsts", pairs, first);
	lrn_onnx_ints(e, "seconds", pairs, second);
	mr_free(e->env, first);
	lrn_onnx_doubles(e, "rho", 1, &pairs, e->m->svm.rho);
	lrn_onnx_gather(e, "said_by_first", "said", "firsts", 1);
	lrn_onnx_gather(e, "said_by_second", "said", "seconds", 1);
	lrn_onnx_op(e, "Add", "said_by_both", "said_by_first", "said_by_second", NULL);
	lrn_onnx_op(e, "Sub", "borders", "said_by_both", "rho", NULL);
	return MR_OK;
}

/* Two classes: the distance from the border and its negative. */
static void
put_two(lrn_export *e, const char *out)
{
	const float minus = -1;

	lrn_onnx_floats(e, "minus", 0, NULL, &minus);
	lrn_onnx_cast(e, "for_first", "borders", MR_ONNX_FLOAT);
	lrn_onnx_op(e, "Mul", "for_second", "for_first", "minus", NULL);
	lrn_onnx_pair(e, out, "for_first", "for_second");
}

/*
 * More: votes of the pairs, and within a vote the sum of the distances squeezed
 * to less than a third.  Both are products with a matrix that has 1 where the
 * first of a pair is the class and -1 where the second is: a won pair counts so,
 * and each pair has one vote for its second to begin with.
 */
static mr_code
put_votes(lrn_export *e, const char *out)
{
	int			k = e->m->info.n_classes;
	int64_t		shape[2] = {(int64_t) k * (k - 1) / 2, k},
				pair = 0;
	size_t		bytes = (size_t) (shape[0] * k) * sizeof(float);
	float	   *sign = mr_alloc(e->env, bytes);
	double		seconds[LRN_SVM_CLASSES];

	if (sign == NULL)
		return lrn_out_of_memory(e->st);
	memset(sign, 0, bytes);
	for (int a = 0; a < k; a++)
	{
		seconds[a] = a;			/* so many pairs have it second */
		for (int b = a + 1; b < k; b++, pair++)
		{
			sign[pair * k + a] = 1;
			sign[pair * k + b] = -1;
		}
	}
	lrn_onnx_floats(e, "sign_narrow", 2, shape, sign);
	mr_free(e->env, sign);
	lrn_onnx_cast(e, "sign", "sign_narrow", MR_ONNX_DOUBLE);
	lrn_onnx_doubles(e, "seconds_of_pairs", 1, shape + 1, seconds);
	lrn_onnx_double(e, "border", 0);
	lrn_onnx_double(e, "three", 3);
	lrn_onnx_op(e, "Greater", "won", "borders", "border", NULL);
	lrn_onnx_cast(e, "won_1", "won", MR_ONNX_DOUBLE);
	lrn_onnx_op(e, "MatMul", "won_more", "won_1", "sign", NULL);
	lrn_onnx_op(e, "Add", "votes", "won_more", "seconds_of_pairs", NULL);
	lrn_onnx_op(e, "MatMul", "confidence", "borders", "sign", NULL);
	lrn_onnx_op(e, "Abs", "size", "confidence", NULL);
	lrn_onnx_op(e, "Mul", "size_3", "size", "three", NULL);
	lrn_onnx_op(e, "Add", "limit", "size_3", "three", NULL);
	lrn_onnx_op(e, "Div", "squeezed", "confidence", "limit", NULL);
	lrn_onnx_op(e, "Add", "votes_in_order", "votes", "squeezed", NULL);
	lrn_onnx_cast(e, out, "votes_in_order", MR_ONNX_FLOAT);
	return MR_OK;
}

mr_code
lrn_svm_export(lrn_export *e, const char *out)
{
	vectors		v;
	lrn_onnx_points p = {0, MR_ONNX_FLOAT, LRN_EUCLIDEAN, feature_of_vectors, &v};
	mr_code		code = find_vectors(e, &v);

	if (code)
		return code;
	p.n = v.n;
	lrn_onnx_coordinates(e, "coordinates");
	lrn_onnx_cast(e, "query", "coordinates", MR_ONNX_FLOAT);
	code = lrn_onnx_distances(e, &p, "query", "squares");
	if (code == MR_OK)
	{
		put_powers(e, "squares", "kernels");
		put_kernels(e, &v);
		code = put_sums(e, &v);
	}
	if (code == MR_OK)
		code = put_borders(e);
	mr_free(e->env, v.lane);
	if (code)
		return code;
	if (e->m->info.n_classes > 2)
		return put_votes(e, out);
	put_two(e, out);
	return MR_OK;
}
