/*
 * encoder_graph.h
 *	  Encoders that come as model.onnx: the engine runs them.
 *
 * txt_encoder_*() hand to these what is of family txt_graph; arguments as there.
 */
#ifndef MILLRACE_TEXT_ENCODER_GRAPH_H
#define MILLRACE_TEXT_ENCODER_GRAPH_H

#include "text/hf.h"

/* Is the graph an encoder?  *info: hf's, with what only graph and compiled tokenizer tell. */
extern mr_code txt_graph_check(const mr_env *env, const txt_hf *hf, const void *tokenizer, size_t tokenizer_len,
							   txt_encoder_info *info, mr_status *st);

/* The compiled form of a folder with a graph; the compiled tokenizer is copied in. */
extern mr_code txt_graph_build(const mr_env *env, const txt_hf *hf, const void *tokenizer, size_t tokenizer_len,
							   const txt_encoder_options *options, void **out, size_t *out_len, mr_status *st);

extern bool txt_is_graph(const void *bytes, size_t len);	/* compiled by txt_graph_build() */
extern mr_code txt_graph_open(const void *bytes, size_t len, txt_encoder *e, mr_status *st);
extern size_t txt_graph_workspace(const txt_encoder *e, int tokens);

/* layer: -1 or info.layers alone, MR_UNSUPPORTED otherwise. */
extern mr_code txt_graph_run(const txt_encoder *e, const mr_env *env, void *workspace, const txt_batch *batch, int layer,
							 float *hidden, mr_status *st);

#endif							/* MILLRACE_TEXT_ENCODER_GRAPH_H */
