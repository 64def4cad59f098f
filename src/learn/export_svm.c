/*
 * export_svm.c
 *	  RBF machines as ONNX, as kernels_svm.h computes them: what the vectors of
 *	  each class say against each other class, then a border for each pair.
 */
#include "learn/export.h"

#include <math.h>
#include <stdio.h>
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

/* 2^-squares in double, a value for each class: "kernel_0" [N, its vectors], ... */
static void
put_kernels(lrn_export *e, const vectors *v, const char *squares)
{
	int			k = e->m->info.n_classes;
	int64_t		count[LRN_SVM_CLASSES];
	char		name[40];
	size_t		at;

	for (int a = 0; a < k; a++)
		count[a] = v->first[a + 1] - v->first[a];
	lrn_onnx_double(e, "minus_ln_2", -0.69314718055994530942);
	lrn_onnx_cast(e, "squares_wide", squares, MR_ONNX_DOUBLE);
	lrn_onnx_op(e, "Mul", "exponents", "squares_wide", "minus_ln_2", NULL);
	lrn_onnx_op(e, "Exp", "kernels", "exponents", NULL);
	lrn_onnx_ints(e, "vectors_of_classes", k, count);
	at = mr_onnx_begin(&e->w, 1);
	mr_onnx_text(&e->w, 1, "kernels");
	mr_onnx_text(&e->w, 1, "vectors_of_classes");
	for (int a = 0; a < k; a++)
	{
		snprintf(name, sizeof(name), "kernel_%d", a);
		mr_onnx_text(&e->w, 2, name);
	}
	mr_onnx_text(&e->w, 3, "kernels_apart");
	mr_onnx_text(&e->w, 4, "Split");
	mr_onnx_attr_int(&e->w, "axis", 1);
	mr_onnx_end(&e->w, at);
}

/* What each class says against the others in order: "said" [N, k (k - 1)]. */
static void
put_sums(lrn_export *e, const vectors *v)
{
	int			k = e->m->info.n_classes;
	char		kernel[40],
				narrow[40],
				wide[40],
				sum[40];
	size_t		at;

	for (int a = 0; a < k; a++)
	{
		int64_t		shape[2] = {v->first[a + 1] - v->first[a], k - 1};

		snprintf(kernel, sizeof(kernel), "kernel_%d", a);
		snprintf(narrow, sizeof(narrow), "coef_narrow_%d", a);
		snprintf(wide, sizeof(wide), "coef_%d", a);
		snprintf(sum, sizeof(sum), "said_%d", a);
		at = mr_onnx_tensor_begin(&e->w, 5, narrow, MR_ONNX_FLOAT, 2, shape, (size_t) (shape[0] * shape[1]) * sizeof(float));
		for (int64_t i = v->first[a]; i < v->first[a + 1]; i++)
			for (int o = 0; o < k - 1; o++)
			{
				float		c = coefficient(e->m, v->lane[i], o);

				mr_onnx_append(&e->w, &c, sizeof(c));
			}
		mr_onnx_end(&e->w, at);
		lrn_onnx_cast(e, wide, narrow, MR_ONNX_DOUBLE);
		lrn_onnx_op(e, "MatMul", sum, kernel, wide, NULL);
	}
	at = mr_onnx_begin(&e->w, 1);
	for (int a = 0; a < k; a++)
	{
		snprintf(sum, sizeof(sum), "said_%d", a);
		mr_onnx_text(&e->w, 1, sum);
	}
	mr_onnx_text(&e->w, 2, "said");
	mr_onnx_text(&e->w, 3, "said");
	mr_onnx_text(&e->w, 4, "Concat");
	mr_onnx_attr_int(&e->w, "axis", 1);
	mr_onnx_end(&e->w, at);
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
	size_t		at;

	lrn_onnx_floats(e, "minus", 0, NULL, &minus);
	lrn_onnx_cast(e, "for_first", "borders", MR_ONNX_FLOAT);
	lrn_onnx_op(e, "Mul", "for_second", "for_first", "minus", NULL);
	at = lrn_onnx_node(e, "Concat", out, "for_first", "for_second", NULL);
	mr_onnx_attr_int(&e->w, "axis", 1);
	mr_onnx_end(&e->w, at);
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
		put_kernels(e, &v, "squares");
		put_sums(e, &v);
		code = put_borders(e);
	}
	mr_free(e->env, v.lane);
	if (code)
		return code;
	if (e->m->info.n_classes > 2)
		return put_votes(e, out);
	put_two(e, out);
	return MR_OK;
}
