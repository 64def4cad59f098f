/*
 * onnx_write.h
 *	  Writing ONNX: a growing protocol-buffer message, and the messages of a model.
 *
 * The bytes come from the environment and belong to the caller once taken
 * (w->p, w->len).  A failure (no memory, or more than w->limit bytes) sticks:
 * later calls do nothing, and nn_write_code() tells at the end.
 */
#ifndef MILLRACE_NN_ONNX_WRITE_H
#define MILLRACE_NN_ONNX_WRITE_H

#include "nn/graph.h"

typedef struct nn_writer
{
	const mr_env *env;
	size_t		limit;
	uint8_t    *p;
	size_t		len,
				cap;
	mr_code		code;
} nn_writer;

extern void nn_write_init(nn_writer *w, const mr_env *env, size_t limit);
extern mr_code nn_write_code(const nn_writer *w, mr_status *st);

/* Fields. */
extern void nn_write_int(nn_writer *w, uint32_t field, int64_t v);
extern void nn_write_float(nn_writer *w, uint32_t field, float v);
extern void nn_write_bytes(nn_writer *w, uint32_t field, const void *data, size_t len);
extern void nn_write_text(nn_writer *w, uint32_t field, const char *s);

/* A nested message: everything written between the two belongs to it. */
extern size_t nn_write_begin(nn_writer *w, uint32_t field);
extern void nn_write_end(nn_writer *w, size_t begun);

/* TensorProto with raw data, of a dtype as tensors here have them. */
extern void nn_write_tensor(nn_writer *w, uint32_t field, const char *name, int dtype, const nn_shape *shape,
							const void *data);

/* ValueInfoProto; batch: the first dimension is open. */
extern void nn_write_port(nn_writer *w, uint32_t field, const char *name, int dtype, const nn_shape *shape, bool batch);

/* Attributes of the NodeProto at hand. */
extern void nn_write_attr_int(nn_writer *w, const char *name, int64_t v);
extern void nn_write_attr_float(nn_writer *w, const char *name, float v);
extern void nn_write_attr_ints(nn_writer *w, const char *name, int n, const int64_t *v);
extern void nn_write_attr(nn_writer *w, const nn_attr *a);

#endif							/* MILLRACE_NN_ONNX_WRITE_H */
