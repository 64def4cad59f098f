/*
 * ops_ml.h
 *	  What the files of ai.onnx.ml (ops_ml*.c) share.
 *
 * These operators keep their models in attributes: trees, coefficients, labels.
 * An infer() turns them, once, into constants that hang behind the node's own
 * inputs: nn_ml_attach().  So they lie in the compiled file, ready to use, and a
 * run reads no attribute.  An attached value has no name, which no input of a
 * file can be without; the operator's line in the table counts them.
 */
#ifndef MILLRACE_NN_OPS_ML_H
#define MILLRACE_NN_OPS_ML_H

#include "nn/ops_impl.h"

/* Attribute lists; *n = 0 if absent.  Wrong type: error. */
extern mr_code nn_ml_floats(nn_infer_call *c, const char *name, const float **list, int *n);
extern mr_code nn_ml_ints(nn_infer_call *c, const char *name, const int64_t **list, int *n);
extern mr_code nn_ml_strings(nn_infer_call *c, const char *name, const pb_bytes **list, int *n);

/* A tensor attribute; elements 0 and no data if absent. */
extern mr_code nn_ml_tensor(nn_infer_call *c, const char *name, nn_tensor *t);

/* Do the node's first `own` inputs make it up, or is the rest attached already?
 * Fails if the file itself has more. */
extern mr_code nn_ml_attached(nn_infer_call *c, int own, bool *attached);

/* A constant of n elements as the node's next input; *data: to be filled. */
extern mr_code nn_ml_attach(nn_infer_call *c, int dtype, int64_t n, void **data);

/* Labels of a classifier, attached as int64: its integers, or 0, 1, ... for strings. */
extern mr_code nn_ml_attach_labels(nn_infer_call *c, const char *ints, int *n);

/* Numbers of any type that holds numbers, as float. */
extern mr_code nn_ml_need_number(nn_infer_call *c, int k);
static inline float
nn_ml_number(const nn_tensor *t, int64_t i)
{
	return t->dtype == nn_float32 ? ((const float *) t->data)[i] :
		t->dtype == nn_int64 ? (float) ((const int64_t *) t->data)[i] : (float) ((const int32_t *) t->data)[i];
}

/* Rows and columns of a table: rank 2, or rank 1 as one row. */
extern mr_code nn_ml_table(nn_infer_call *c, int64_t *rows, int64_t *columns);

typedef enum nn_ml_post
{
	nn_ml_none, nn_ml_softmax, nn_ml_logistic, nn_ml_softmax_zero, nn_ml_probit
} nn_ml_post;

extern mr_code nn_ml_get_post(nn_infer_call *c, int64_t *post);
extern float nn_ml_logistic_of(float x);

/* n >= 2 scores of a row, in place. */
extern void nn_ml_transform(float *scores, int64_t n, nn_ml_post post);

/* One score that stands for two classes, into both: s[0], s[1].  signed: around
 * zero, not around a half. */
extern void nn_ml_two_classes(float *s, bool around_zero, nn_ml_post post);

#endif							/* MILLRACE_NN_OPS_ML_H */
