/*
 * encoder.h
 *	  Language-model encoders of the BERT family: token numbers into vectors.
 *
 *	txt_bundle_*()			a model's folder as one block of bytes: what is stored and hashed
 *	txt_encoder_check()		what a bundle is; every import error
 *	txt_encoder_compile()	bundle into one position-independent block: packed weights for one
 *							instruction set and precision, the compiled tokenizer, the pooling
 *	txt_encoder_open()		validate such bytes (mapped read-only, say) and point into them
 *	txt_encoder_run()		sequences of any lengths, one behind the other, without padding
 *
 * Everything is pure: memory comes from the mr_env or from the caller.  A
 * sequence's numbers do not depend on the others it is run with: they are bit-equal
 * alone or in any batch, on one instruction set and precision.
 */
#ifndef MILLRACE_TEXT_ENCODER_H
#define MILLRACE_TEXT_ENCODER_H

#include "nn/nn.h"
#include "text/text.h"

#define TXT_ENCODER_VERSION 2	/* raised when compiled bytes change */

/* ---- bundle.c: the files of a model's folder ---- */

#define TXT_MAX_FILES 64

typedef struct txt_file
{
	const char *name;			/* "config.json", "1_Pooling/config.json" */
	const void *data;
	size_t		len;
} txt_file;

typedef struct txt_bundle
{
	int			n;
	txt_file	file[TXT_MAX_FILES];	/* sorted by name; points into the bytes */
} txt_bundle;

/* Sorted by name, so that the same folder gives the same bytes; *out is allocated in env. */
extern mr_code txt_bundle_write(const mr_env *env, const txt_file *files, int n, void **out, size_t *out_len, mr_status *st);
extern bool txt_is_bundle(const void *bytes, size_t len);	/* by its first bytes */
extern mr_code txt_bundle_open(const void *bytes, size_t len, txt_bundle *b, mr_status *st);
extern const txt_file *txt_bundle_find(const txt_bundle *b, const char *name);	/* NULL: not there */

/* ---- what an encoder is ---- */

typedef enum txt_family
{
	txt_bert = 0,
	txt_distilbert,
	txt_roberta,				/* and XLM-R, CamemBERT: the same graph, another tokenizer */
	txt_mpnet,
	txt_graph					/* model.onnx, run by the engine */
} txt_family;

typedef enum txt_pooling
{
	txt_pool_mean = 0,
	txt_pool_cls,
	txt_pool_max,
	txt_pool_mean_sqrt
} txt_pooling;

typedef struct txt_encoder_info
{
	txt_family	family;
	int32_t		layers;
	int32_t		hidden;			/* numbers of a vector */
	int32_t		heads;
	int32_t		intermediate;
	int32_t		vocabulary;
	int32_t		max_tokens;		/* that a sequence may have, those of the template included */
	int32_t		embed_tokens;	/* what an embedded text is cut to: sentence-transformers' max_seq_length, <= max_tokens */
	int32_t		pooling;		/* txt_pooling */
	bool		normalize;		/* embeddings have length 1 */
	nn_dtype	precision;		/* of compiled weights: float32, bfloat16, int8 */
	int64_t		n_parameters;
} txt_encoder_info;

typedef struct txt_encoder_options
{
	nn_isa		isa;			/* nn_isa_auto: the best of this CPU */
	nn_dtype	precision;		/* nn_float32, nn_bfloat16, nn_int8 */
} txt_encoder_options;

/* MR_INVALID for damaged or contradicting files, MR_UNSUPPORTED for what we do not run; both name file and part. */
extern mr_code txt_encoder_check(const mr_env *env, const void *bundle, size_t len, txt_encoder_info *out, mr_status *st);

extern mr_code txt_encoder_compile(const mr_env *env, const void *bundle, size_t len, const txt_encoder_options *options,
								   void **out, size_t *out_len, mr_status *st);

#define TXT_MAX_PLANS 8			/* of a graph, for sequences of different lengths */

/* Views into the compiled bytes (64-byte aligned), which must outlive them. */
typedef struct txt_encoder
{
	const struct txt_encoder_head *head;
	txt_encoder_info info;
	txt_tokenizer tokenizer;
	nn_isa		isa;
	const struct nn_kernels *kernels;
	const struct nn_low_kernels *low;	/* NULL in float32 */

	/* of family txt_graph, instead of head and kernels (encoder_graph.c) */
	const struct txt_graph_head *graph;
	nn_model	plan[TXT_MAX_PLANS];
} txt_encoder;

/* MR_CORRUPT: damaged, of another version, or for an instruction set that this CPU lacks: compile again. */
extern mr_code txt_encoder_open(const void *bytes, size_t len, txt_encoder *e, mr_status *st);

/* ---- running ---- */

/* Sequence i is ids[start[i] .. start[i + 1]), of 1 to max_tokens ids; start[0] = 0. */
typedef struct txt_batch
{
	int			n;
	const int32_t *ids;
	const int32_t *start;
} txt_batch;

/* Bytes of work memory, 64-byte aligned, for sequences of so many tokens together. */
extern size_t txt_encoder_workspace(const txt_encoder *e, int tokens);

/*
 * hidden: start[n] rows of info.hidden floats, what layer gives each token: 0 the
 * embeddings, info.layers the last (-1: the last).  Layers behind it are not run.
 * Interrupts are asked for at least each 10 ms: MR_CANCELED.  Ids out of the
 * vocabulary: MR_INVALID.
 */
extern mr_code txt_encoder_run(const txt_encoder *e, const mr_env *env, void *workspace, const txt_batch *batch, int layer,
							   float *hidden, mr_status *st);

/* embeddings: batch->n rows of info.hidden floats from what the last layer gave. */
extern void txt_encoder_pool(const txt_encoder *e, const txt_batch *batch, const float *hidden, float *embeddings);

#endif							/* MILLRACE_TEXT_ENCODER_H */
