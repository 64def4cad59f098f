/*
 * hf.h
 *	  The Hugging Face layout of an encoder's folder: its JSON files and
 *	  safetensors, read into one description for encoder_compile.c.
 *
 * All pointers lead into the bundle's bytes.
 */
#ifndef MILLRACE_TEXT_HF_H
#define MILLRACE_TEXT_HF_H

#include "nn/kernels.h"
#include "text/encoder.h"

/* A tensor of a safetensors file, as it lies there (any alignment). */
typedef struct txt_tensor
{
	const void *data;
	nn_dtype	dtype;			/* float32, float16, bfloat16 */
	int			rank;
	int64_t		dims[4];
} txt_tensor;

#define TXT_MAX_LAYERS 64

/* y = x W' + b: weight is out x in, bias out numbers (data NULL: none). */
typedef struct txt_linear
{
	txt_tensor	weight,
				bias;
} txt_linear;

typedef struct txt_layer
{
	txt_linear	query,
				key,
				value,
				attended;		/* the product behind the attention */
	txt_tensor	attended_scale, /* LayerNorm behind its sum with the input */
				attended_shift;
	txt_linear	up,				/* hidden -> intermediate, then act */
				down;
	txt_tensor	scale,			/* LayerNorm behind the second sum */
				shift;
} txt_layer;

typedef struct txt_hf
{
	txt_encoder_info info;
	nn_act_kind act;			/* nn_act_gelu, nn_act_gelu_tanh, nn_act_relu, nn_act_silu */
	float		eps;			/* of LayerNorm */
	int			first_position; /* row of positions[] of the first token: 0, or 2 (RoBERTa, MPNet) */
	int32_t		padding;		/* RoBERTa, MPNet: a token of this id has row `padding` and does not count; else -1 */
	bool		lowercase;		/* sentence_bert_config's do_lower_case; txt_hf_tokenizer() sees to it */
	txt_tensor	words;			/* vocabulary x hidden */
	txt_tensor	positions;		/* n x hidden */
	txt_tensor	types;			/* row 0 counts; data NULL: none */
	txt_tensor	scale,			/* of the embeddings' LayerNorm */
				shift;
	txt_tensor	relative;		/* mpnet: buckets x heads, relative_attention_bias */
	int			relative_buckets;	/* 32; distances of 128 and more share the last */
	txt_layer	layer[TXT_MAX_LAYERS];
	const txt_file *graph;		/* txt_graph: model.onnx.  Then there are no tensors; what config.json does not
								 * say of sizes is 0, and hidden is the graph's to tell (encoder_graph.h) */
	const txt_file *tokenizer_json;	/* either */
	const txt_file *vocab_txt;
	txt_vocab_options vocab_options;	/* by tokenizer_config.json */
	bool		vocab_options_given;	/* then they count for a tokenizer.json too */
} txt_hf;

/* Everything that import checks but the tokenizer's file.  hf is large: not on the stack. */
extern mr_code txt_hf_read(const mr_env *env, const txt_bundle *b, txt_hf *hf, mr_status *st);

/* The tokenizer, compiled (in env), checked against the vocabulary of the embeddings. */
extern mr_code txt_hf_tokenizer(const mr_env *env, const txt_hf *hf, void **out, size_t *out_len, mr_status *st);

/* n numbers of a tensor from element at on, as float32. */
extern void txt_tensor_floats(const txt_tensor *t, int64_t at, int64_t n, float *out);

#endif							/* MILLRACE_TEXT_HF_H */
