/*
 * encoder_int.h
 *	  The compiled form of an encoder, shared by who writes, checks and runs it.
 *
 * One block of bytes: txt_encoder_head, then sections, each 64-byte aligned, at
 * offsets from its start.  The packs of all layers follow each other in the order
 * of use, so that kernels, which read ahead past a pack's end, find the next one.
 * Families differ in the compiler alone: a run knows tables, packs and, for
 * MPNet, biases of the attention.
 */
#ifndef MILLRACE_TEXT_ENCODER_INT_H
#define MILLRACE_TEXT_ENCODER_INT_H

#include <math.h>
#include <string.h>

#include "nn/kernels_low.h"
#include "text/encoder.h"
#include "text/hf.h"

#define TXT_ENCODER_MAGIC UINT64_C(0x31434e4552494d4d)	/* "MMIRENC1" */
#define TXT_ENCODER_FLOAT (-1)	/* head.low where the weights are float32 */

/* Products of a layer, in the order of use. */
typedef enum txt_product
{
	txt_p_qkv = 0,				/* queries, keys and values side by side */
	txt_p_attended,
	txt_p_up,
	txt_p_down,
	TXT_N_PRODUCTS
} txt_product;

typedef struct txt_encoder_layer
{
	uint64_t	pack[TXT_N_PRODUCTS];
	uint64_t	finish[TXT_N_PRODUCTS];	/* int8, for each part: what a zero point of 1 is worth and the bias (the pack
										 * has none), by column; what the input is multiplied by, by its numbers */
	uint64_t	norm;			/* 4 x hidden: scale and shift behind the attention, scale and shift of the end */
} txt_encoder_layer;

typedef struct txt_encoder_head
{
	uint64_t	magic;
	uint32_t	version;
	uint32_t	head_bytes;		/* of this struct */
	uint64_t	size;			/* of all */
	int64_t		n_parameters;
	int32_t		family,
				layers,
				hidden,
				heads,
				intermediate,
				vocabulary,
				max_tokens,
				embed_tokens,
				pooling,
				normalize,
				precision;
	int32_t		isa;			/* of the float32 kernels */
	int32_t		low;			/* nn_low_kind of the products, or TXT_ENCODER_FLOAT */
	int32_t		low_isa;
	int32_t		act;			/* nn_act_kind behind "up" */
	float		eps;			/* of LayerNorm */
	int32_t		padding;		/* a token of this id has the last row of positions and does not count; -1: none */
	int32_t		has_relative;
	uint64_t	words;			/* vocabulary x hidden: float32, or bfloat16 where precision is not float32 */
	uint64_t	positions;		/* (max_tokens + 1) x hidden: position and type together */
	uint64_t	norm;			/* 2 x hidden: scale and shift of the embeddings */
	uint64_t	relative;		/* heads x (2 max_tokens - 1): what attention adds for j - i = 1 - max_tokens … */
	uint64_t	tokenizer,
				tokenizer_len;
	txt_encoder_layer layer[TXT_MAX_LAYERS];
} txt_encoder_head;

/* y = x B: x has k columns, y n. */
static inline void
txt_product_shape(const txt_encoder_head *h, txt_product p, int *k, int *n)
{
	*k = p == txt_p_down ? h->intermediate : h->hidden;
	*n = p == txt_p_qkv ? 3 * h->hidden : p == txt_p_up ? h->intermediate : h->hidden;
}

/* Parts of a product, side by side in its columns, each with a pack of its own: in int8 queries, keys
 * and values have each their own way to smooth the input. */
static inline int
txt_product_parts(const txt_encoder_head *h, txt_product p)
{
	return h->low == nn_low_u8 && p == txt_p_qkv ? 3 : 1;
}

/* What the compiler lays out by and opening checks by (encoder_open.c). */
extern const char *txt_encoder_fault(const txt_encoder_head *h);	/* numbers out of range: which, or NULL */
extern size_t txt_encoder_pack_size(const txt_encoder_head *h, txt_product p);	/* of a part */
extern size_t txt_encoder_words_size(const txt_encoder_head *h);

typedef void (*txt_section_fn) (void *arg, uint64_t *at, uint64_t bytes);
extern void txt_encoder_sections(txt_encoder_head *h, txt_section_fn visit, void *arg);

/* Parts of products of an int8 encoder (encoder_int8.c): finish as in txt_encoder_layer, x, y and res are float32. */
extern size_t txt_int8_scratch(const txt_encoder *e, int m, int k, int n);
extern void txt_int8_product(const txt_encoder *e, const void *pack, const float *finish, int m, int k, int n,
							 const nn_low_rows *x, const nn_low_rows *res, const nn_low_rows *y, nn_act act, void *scratch);

/* What is compiled, from a description whose tensors have the right shapes; the compiled tokenizer is copied in. */
extern mr_code txt_encoder_build(const mr_env *env, const txt_hf *hf, const void *tokenizer, size_t tokenizer_len,
								 const txt_encoder_options *options, void **out, size_t *out_len, mr_status *st);

#endif							/* MILLRACE_TEXT_ENCODER_INT_H */
