/*
 * export.h
 *	  Models as ONNX: what learners write by, and the call that makes a file.
 *
 * Each learner writes the nodes that compute what its predict() gives, from the
 * numbers of the prediction file (trees: of the model bytes); the rest of the
 * file - ports, calibration, labels, metadata - is export.c's.  Input "X", float
 * [N, features].  Outputs: of classifiers "label" [N] and "probabilities" [N,
 * classes]; of regressors and pca "variable" [N, outputs]; of kmeans "label" and
 * "scores" [N, clusters], the distances to the centres.  Operators are those of
 * opset 13 and ai.onnx.ml 3.
 *
 * Sums run in double where ours do, comparisons in float32 as ours: a row that
 * lies on a threshold goes the same way.
 */
#ifndef MILLRACE_LEARN_EXPORT_H
#define MILLRACE_LEARN_EXPORT_H

#include "core/onnx_write.h"
#include "learn/learner.h"

/* What a file says beside the numbers; texts are the caller's, in UTF-8. */
typedef struct lrn_about
{
	const char *name;			/* of the model, and its version */
	int64_t		version;
	const char *producer_version;
	const char *const *labels;	/* n_classes; NULL: 0, 1, ... */
	const char *const *notes;	/* metadata: n_notes times key and value */
	int			n_notes;
} lrn_about;

/*
 * bytes: model bytes, m: their prediction file, opened.  *onnx comes from env.
 * MR_LIMIT: the file would have more than limit bytes; MR_NOMEM; MR_CANCELED;
 * MR_CORRUPT.  Takes the file's size and one tree.
 */
extern mr_code lrn_export_onnx(const mr_env *env, const uint8_t *bytes, size_t len, const lrn_model *m,
							   const lrn_about *about, size_t limit, uint8_t **onnx, size_t *onnx_len, mr_status *st);

/* ---- for learners: lrn_learner.export writes the value `out`, float [N, n_outputs] ---- */

typedef struct lrn_export
{
	const mr_env *env;
	mr_status  *st;
	const lrn_model *m;
	const uint8_t *bytes;		/* model bytes, checked */
	size_t		len;
	mr_onnx		w;				/* in the GraphProto; failures stick */
} lrn_export;

/* A node of one output; inputs are names up to NULL. */
extern void lrn_onnx_op(lrn_export *e, const char *op, const char *out, ...) __attribute__((sentinel));
/* The same left open for attributes: mr_onnx_end(&e->w, ...) ends it. */
extern size_t lrn_onnx_node(lrn_export *e, const char *op, const char *out, ...) __attribute__((sentinel));
/* Nodes with the attributes they need. */
extern void lrn_onnx_cast(lrn_export *e, const char *out, const char *in, int type);
extern void lrn_onnx_gather(lrn_export *e, const char *out, const char *in, const char *at, int axis);

/* Columns side by side: a and b, or the n values of a numbered name. */
extern void lrn_onnx_pair(lrn_export *e, const char *out, const char *a, const char *b);
extern void lrn_onnx_join(lrn_export *e, const char *out, const char *parts, int n);
/* The other way round: n parts along an axis, of the sizes that a constant names, or all alike. */
extern void lrn_onnx_split(lrn_export *e, const char *parts, int n, const char *in, const char *sizes, int axis);

/* A name with a number: the i-th of many values. */
typedef struct lrn_onnx_name
{
	char		s[40];
} lrn_onnx_name;

extern lrn_onnx_name lrn_onnx_numbered(const char *name, int i);

/* Constants. */
extern void lrn_onnx_doubles(lrn_export *e, const char *name, int rank, const int64_t *dims, const double *v);
extern void lrn_onnx_floats(lrn_export *e, const char *name, int rank, const int64_t *dims, const float *v);
extern void lrn_onnx_ints(lrn_export *e, const char *name, int64_t n, const int64_t *v);	/* a vector */
extern void lrn_onnx_double(lrn_export *e, const char *name, double v); /* a scalar */

/* Answers in double become `out`: 1 / (1 + exp(-z)) of one margin and the rest
 * to 1 before it; a softmax. */
extern void lrn_onnx_two_classes(lrn_export *e, const char *margin, const char *out);
extern void lrn_onnx_softmax(lrn_export *e, const char *margins, const char *out);

/* 1 / (1 + exp(z)) in double. */
extern void lrn_onnx_sigmoid(lrn_export *e, const char *z, const char *out);

/* X in a model's own coordinates: (x - shift) * scale, in double. */
extern void lrn_onnx_coordinates(lrn_export *e, const char *out);

/* Points that distances are measured to (export_distance.c). */
typedef struct lrn_onnx_points
{
	int64_t		n;
	int			type;			/* of the sums: MR_ONNX_FLOAT or MR_ONNX_DOUBLE */
	int			metric;			/* lrn_metric: sums of squares, of absolutes, or of products */
	/* feature j of all points into out, as many numbers of that type */
	void		(*feature) (const lrn_model *m, const void *arg, int j, void *out);
	const void *arg;
} lrn_onnx_points;

/* From [N, features] to [N, points].  MR_NOMEM, MR_CANCELED. */
extern mr_code lrn_onnx_distances(lrn_export *e, const lrn_onnx_points *p, const char *in, const char *out);

/* Scores to probabilities (export_calibrate.c); the learners' hooks are in learner.h. */
extern mr_code lrn_calibration_export(lrn_export *e, const char *in, const char *out);

#endif							/* MILLRACE_LEARN_EXPORT_H */
