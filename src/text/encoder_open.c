/*
 * encoder_open.c
 *	  Compiled bytes, checked: whatever they hold, a run stays within them.
 *
 * Numbers are bounded first, so that sizes made of them do not overflow; then
 * each section must be aligned and inside, each pack be of its product's shape.
 * What the weights are is not checked: they may be any floats.
 */
#include "text/encoder_graph.h"
#include "text/encoder_int.h"

#define MAX_WIDTH 65536			/* of hidden and intermediate */
#define MAX_HEADS 1024
#define MAX_TOKENS 32768
#define MAX_VOCABULARY (1 << 22)

static bool
between(int32_t x, int32_t lo, int32_t hi)
{
	return x >= lo && x <= hi;
}

const char *
txt_encoder_fault(const txt_encoder_head *h)
{
	if (!between(h->family, txt_bert, txt_mpnet))
		return "family";
	if (!between(h->layers, 1, TXT_MAX_LAYERS))
		return "layers";
	if (!between(h->hidden, 1, MAX_WIDTH) || !between(h->intermediate, 1, MAX_WIDTH))
		return "width";
	if (!between(h->heads, 1, MAX_HEADS) || h->hidden % h->heads != 0)
		return "heads";
	if (!between(h->vocabulary, 1, MAX_VOCABULARY))
		return "vocabulary";
	if (!between(h->max_tokens, 1, MAX_TOKENS))
		return "positions";
	if (!between(h->embed_tokens, 1, h->max_tokens))
		return "tokens of a text";
	if (!between(h->pooling, txt_pool_mean, txt_pool_mean_sqrt) || !between(h->normalize, 0, 1))
		return "pooling";
	if (!between(h->act, nn_act_none, nn_act_last) || h->act == nn_act_clip)
		return "activation";
	if (!(h->eps >= 0) || isinf(h->eps))
		return "epsilon";
	if (!between(h->padding, -1, h->vocabulary - 1))
		return "padding";
	if (!between(h->has_relative, 0, 1))
		return "relative positions";
	return NULL;
}

/* Of a part. */
static nn_conv
shape_of(const txt_encoder_head *h, txt_product p)
{
	nn_conv		flat;

	memset(&flat, 0, sizeof(flat));
	txt_product_shape(h, p, &flat.cin, &flat.cout);
	flat.cout /= txt_product_parts(h, p);
	flat.groups = flat.kh = flat.kw = 1;
	return flat;
}

size_t
txt_encoder_pack_size(const txt_encoder_head *h, txt_product p)
{
	nn_conv		flat = shape_of(h, p);
	size_t		size = h->low == TXT_ENCODER_FLOAT ? nn_gemm_pack_size(h->isa, flat.cin, flat.cout) :
		nn_low_gemm_pack_size(h->low_isa, h->low, flat.cin, flat.cout);

	return (size + NN_ALIGN - 1) / NN_ALIGN * NN_ALIGN;
}

size_t
txt_encoder_words_size(const txt_encoder_head *h)
{
	return (size_t) h->vocabulary * (size_t) h->hidden * (h->precision == nn_float32 ? sizeof(float) : sizeof(uint16_t));
}

/* All sections, in the order in which they lie. */
void
txt_encoder_sections(txt_encoder_head *h, txt_section_fn visit, void *arg)
{
	uint64_t	row = sizeof(float) * (uint64_t) h->hidden;

	for (int i = 0; i < h->layers; i++)
		for (int p = 0; p < TXT_N_PRODUCTS; p++)
			visit(arg, &h->layer[i].pack[p], (uint64_t) txt_product_parts(h, p) * txt_encoder_pack_size(h, p));
	for (int i = 0; i < h->layers; i++)
	{
		visit(arg, &h->layer[i].norm, 4 * row);
		for (int p = 0; h->low == nn_low_u8 && p < TXT_N_PRODUCTS; p++)
			visit(arg, &h->layer[i].finish[p], (uint64_t) txt_product_parts(h, p) * sizeof(float) *
				  (2 * (uint64_t) shape_of(h, p).cout + (uint64_t) shape_of(h, p).cin));
	}
	visit(arg, &h->norm, 2 * row);
	visit(arg, &h->positions, row * ((uint64_t) h->max_tokens + 1));
	if (h->has_relative)
		visit(arg, &h->relative, sizeof(float) * (uint64_t) h->heads * (2 * (uint64_t) h->max_tokens - 1));
	visit(arg, &h->words, txt_encoder_words_size(h));
	visit(arg, &h->tokenizer, h->tokenizer_len);
}

/* ---- opening ---- */

typedef struct extent
{
	uint64_t	size;
	bool		good;
} extent;

static void
check_section(void *arg, uint64_t *at, uint64_t bytes)
{
	extent	   *all = arg;

	all->good = all->good && *at % NN_ALIGN == 0 && *at >= sizeof(txt_encoder_head) && *at <= all->size &&
		bytes <= all->size - *at;
}

static mr_code
damaged(mr_status *st, const char *what)
{
	return mr_fail(st, MR_CORRUPT, "compiled encoder is damaged: %s", what);
}

/* The tables of kernels for what the head names, or NULL: why not. */
static const char *
find_kernels(const txt_encoder_head *h, txt_encoder *e)
{
	if (!between(h->isa, nn_isa_portable, nn_isa_avx512) || (e->kernels = nn_kernels_for(h->isa)) == NULL)
		return "instruction set";
	e->isa = h->isa;
	e->low = NULL;
	if (h->low == TXT_ENCODER_FLOAT)
		return h->precision == nn_float32 ? NULL : "precision";
	if (!between(h->low, nn_low_u8, nn_low_w16) || h->precision != (h->low == nn_low_u8 ? nn_int8 : nn_bfloat16))
		return "precision";
	if (!between(h->low_isa, nn_isa_portable, nn_isa_last) || nn_low_isa(h->low_isa, h->low) != (nn_isa) h->low_isa ||
		(e->low = nn_low_for(h->low_isa, h->low)) == NULL)
		return "instruction set";
	e->isa = h->low_isa;
	return NULL;
}

static bool
pack_good(const txt_encoder_head *h, txt_product p, const void *pack)
{
	nn_conv		flat = shape_of(h, p);
	size_t		size = txt_encoder_pack_size(h, p);

	return h->low == TXT_ENCODER_FLOAT ? nn_pack_check(pack, size, h->isa, nn_pack_gemm, &flat) :
		nn_low_pack_check(pack, size, h->low_isa, h->low, nn_pack_gemm, &flat);
}

static bool
packs_good(const txt_encoder_head *h)
{
	for (int i = 0; i < h->layers; i++)
		for (int p = 0; p < TXT_N_PRODUCTS; p++)
		{
			const char *pack = (const char *) h + h->layer[i].pack[p];

			for (int part = 0; part < txt_product_parts(h, p); part++, pack += txt_encoder_pack_size(h, p))
				if (!pack_good(h, p, pack))
					return false;
		}
	return true;
}

mr_code
txt_encoder_open(const void *bytes, size_t len, txt_encoder *e, mr_status *st)
{
	const txt_encoder_head *h = bytes;
	txt_encoder_head copy;		/* what visits sections may write */
	extent		all = {len, true};
	const char *fault;

	if (txt_is_graph(bytes, len))
		return txt_graph_open(bytes, len, e, st);
	memset(e, 0, sizeof(*e));
	if (len < sizeof(*h) || (uintptr_t) bytes % NN_ALIGN != 0 || h->magic != TXT_ENCODER_MAGIC)
		return damaged(st, "not a compiled encoder");
	if (h->version != TXT_ENCODER_VERSION || h->head_bytes != sizeof(*h))
		return mr_fail(st, MR_CORRUPT, "compiled encoder is of version %u, not %d", h->version, TXT_ENCODER_VERSION);
	if (h->size != len)
		return damaged(st, "size");
	if ((fault = txt_encoder_fault(h)) != NULL || (fault = find_kernels(h, e)) != NULL)
		return damaged(st, fault);
	memcpy(&copy, h, sizeof(copy));
	txt_encoder_sections(&copy, check_section, &all);
	if (!all.good)
		return damaged(st, "sections");
	if (!packs_good(h))
		return damaged(st, "packed weights");
	e->head = h;
	e->info = (txt_encoder_info) {
		.family = (txt_family) h->family, .layers = h->layers, .hidden = h->hidden, .heads = h->heads,
		.intermediate = h->intermediate, .vocabulary = h->vocabulary, .max_tokens = h->max_tokens, .embed_tokens = h->embed_tokens,
		.pooling = h->pooling, .normalize = h->normalize == 1, .precision = (nn_dtype) h->precision,
		.n_parameters = h->n_parameters
	};
	return txt_open((const char *) bytes + h->tokenizer, h->tokenizer_len, &e->tokenizer, st);
}
