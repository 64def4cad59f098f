/*
 * onnx.h
 *	  Shared by onnx.c (graph), onnx_node.c (nodes) and onnx_tensor.c (weights).
 */
#ifndef MILLRACE_NN_ONNX_H
#define MILLRACE_NN_ONNX_H

#include "nn/graph.h"

#define NN_MIN_OPSET 7
#define NN_MAX_OPSET 22

extern mr_code nn_onnx_malformed(nn_graph *g, const char *what);

/* A name or string field: length-delimited, bounded, without NUL. */
extern bool nn_onnx_name(const pb_field *f);

/* Count the fields of that number in a message; false if it is malformed. */
extern bool nn_onnx_count(pb_bytes message, uint32_t number, int *count);

/* A NodeProto, the graph's index-th. */
extern mr_code nn_read_node(nn_graph *g, pb_bytes message, nn_node *n, int index);

/* An initializer: a TensorProto with a name, becomes a constant value. */
extern mr_code nn_read_initializer(nn_graph *g, pb_bytes message);

/* The type a declared type is held in: half types and float64 as float32. */
extern int32_t nn_onnx_storage(int32_t declared);

/* Well-formed UTF-8 without control characters? */
extern bool nn_onnx_utf8(pb_bytes s);

#endif							/* MILLRACE_NN_ONNX_H */
