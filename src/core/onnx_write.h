/*
 * onnx_write.h
 *	  Writing ONNX: a growing protocol-buffer message, and the messages of
 *	  onnx.proto (github.com/onnx/onnx) that more than one room writes.
 *
 * The bytes come from the environment and belong to the caller (w->p, w->len).
 * A failure (no memory, or more than w->limit bytes) sticks: later calls do
 * nothing, and mr_onnx_code() tells at the end.
 */
#ifndef MILLRACE_ONNX_WRITE_H
#define MILLRACE_ONNX_WRITE_H

#include "core/env.h"
#include "core/status.h"

typedef struct mr_onnx
{
	const mr_env *env;
	size_t		limit;
	uint8_t    *p;
	size_t		len,
				cap;
	mr_code		code;
} mr_onnx;

/* TensorProto.DataType, as far as it is written here. */
enum
{
	MR_ONNX_FLOAT = 1, MR_ONNX_INT64 = 7, MR_ONNX_STRING = 8, MR_ONNX_DOUBLE = 11
};

/* AttributeProto.AttributeType; the fields of their values differ. */
enum
{
	MR_ONNX_A_FLOAT = 1, MR_ONNX_A_INT = 2, MR_ONNX_A_STRING = 3, MR_ONNX_A_FLOATS = 6, MR_ONNX_A_INTS = 7,
	MR_ONNX_A_STRINGS = 8
};

extern void mr_onnx_init(mr_onnx *w, const mr_env *env, size_t limit);
extern mr_code mr_onnx_code(const mr_onnx *w, mr_status *st);
/* Room for n more bytes at once, so that what follows needs no copies; false: w->code. */
extern bool mr_onnx_reserve(mr_onnx *w, size_t n);

/* ---- wire format ---- */

extern void mr_onnx_int(mr_onnx *w, uint32_t field, int64_t v);
extern void mr_onnx_float(mr_onnx *w, uint32_t field, float v);
extern void mr_onnx_bytes(mr_onnx *w, uint32_t field, const void *data, size_t len);
extern void mr_onnx_text(mr_onnx *w, uint32_t field, const char *s);

/* A nested message: everything written between the two belongs to it. */
extern size_t mr_onnx_begin(mr_onnx *w, uint32_t field);
extern void mr_onnx_end(mr_onnx *w, size_t begun);

/* The head of a field of len bytes, which the caller appends. */
extern void mr_onnx_head(mr_onnx *w, uint32_t field, size_t len);
extern void mr_onnx_append(mr_onnx *w, const void *data, size_t len);
/* len zero bytes for the caller to fill: where they start in w->p. */
extern size_t mr_onnx_gap(mr_onnx *w, size_t len);

/* A number as the format has it; returns its bytes.  out NULL: only these. */
extern int	mr_onnx_varint(uint64_t v, uint8_t *out);

/* ---- messages ---- */

/* TensorProto; data NULL: the caller appends them, bytes long. */
extern size_t mr_onnx_tensor_begin(mr_onnx *w, uint32_t field, const char *name, int type, int rank,
								   const int64_t *dims, size_t bytes);
extern void mr_onnx_tensor(mr_onnx *w, uint32_t field, const char *name, int type, int rank,
						   const int64_t *dims, const void *data, size_t bytes);

/* ValueInfoProto; batch: the first dimension is open. */
extern void mr_onnx_port(mr_onnx *w, uint32_t field, const char *name, int type, int rank, const int64_t *dims,
						 bool batch);

/* Attributes of the NodeProto at hand; begin and end by themselves for lists of one's own. */
extern size_t mr_onnx_attr_begin(mr_onnx *w, const char *name, int type);
extern void mr_onnx_attr_int(mr_onnx *w, const char *name, int64_t v);
extern void mr_onnx_attr_text(mr_onnx *w, const char *name, const char *s);
extern void mr_onnx_attr_ints(mr_onnx *w, const char *name, int n, const int64_t *v);

/* OperatorSetIdProto of the ModelProto at hand. */
extern void mr_onnx_opset(mr_onnx *w, const char *domain, int version);

#endif							/* MILLRACE_ONNX_WRITE_H */
