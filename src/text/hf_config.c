/*
 * hf_config.c
 *	  config.json: which network it is and how large.  What the family does
 *	  otherwise than we do is refused with the file's and the key's name.
 */
#include "text/hf_int.h"

#include <math.h>

/* Sizes that are sane; the tensors' shapes must agree with them anyway. */
#define MAX_HIDDEN 16384
#define MAX_HEADS 1024
#define MAX_INTERMEDIATE 65536
#define MAX_VOCABULARY (1 << 22)
#define MAX_POSITIONS (32768 + 2)	/* of tokens, and RoBERTa's two before them */

/* Names of a family's members. */
typedef struct family
{
	const char *model_type;
	txt_family	family;
	const char *hidden,
			   *layers,
			   *heads,
			   *intermediate,
			   *act;
	bool		padded;			/* positions begin behind that of the padding */
} family;

#define BERT_NAMES "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"

static const family families[] = {
	{"bert", txt_bert, BERT_NAMES, false},
	{"distilbert", txt_distilbert, "dim", "n_layers", "n_heads", "hidden_dim", "activation", false},
	{"roberta", txt_roberta, BERT_NAMES, true},
	{"xlm-roberta", txt_roberta, BERT_NAMES, true},
	{"camembert", txt_roberta, BERT_NAMES, true},
	{"mpnet", txt_mpnet, BERT_NAMES, true},
};

static const struct
{
	const char *name;
	nn_act_kind act;
}			acts[] = {
	{"gelu", nn_act_gelu}, {"gelu_python", nn_act_gelu},
	{"gelu_new", nn_act_gelu_tanh}, {"gelu_fast", nn_act_gelu_tanh}, {"gelu_accurate", nn_act_gelu_tanh},
	{"gelu_pytorch_tanh", nn_act_gelu_tanh}, {"gelu_python_tanh", nn_act_gelu_tanh},
	{"relu", nn_act_relu}, {"silu", nn_act_silu}, {"swish", nn_act_silu},
};

static bool
unsupported(const txt_folder *f, const txt_file *file, const char *key, const char *value)
{
	mr_fail(f->st, MR_UNSUPPORTED, "\"%s\": \"%.80s\" is not supported", key, value);
	return txt_in_file(f, file);
}

/* The family of model_type; NULL: refused. */
static const family *
find_family(const txt_folder *f, const txt_file *file)
{
	char		type[TXT_TEXT_SIZE] = "";
	const txt_member m[] = {{"model_type", IS_TEXT, type}};

	if (!txt_read_json(f, file, m, 1))
		return NULL;
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (strcmp(type, families[i].model_type) == 0)
			return &families[i];
	if (type[0])
		unsupported(f, file, "model_type", type);
	else
	{
		mr_fail(f->st, MR_INVALID, "there is no \"model_type\"");
		txt_in_file(f, file);
	}
	mr_hint(f->st, "Encoders of the types bert, distilbert, roberta, xlm-roberta, camembert and mpnet are read; others can come as model.onnx.");
	return NULL;
}

static bool
find_act(const txt_folder *f, const txt_file *file, const char *key, const char *name)
{
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
		if (strcmp(name, acts[i].name) == 0)
		{
			f->hf->act = acts[i].act;
			return true;
		}
	return unsupported(f, file, key, name);
}

/* ---- the members ---- */

/* NaN: not there, and has no default. */
typedef struct config
{
	double		hidden,
				layers,
				heads,
				intermediate,
				vocabulary,
				positions,
				types,
				padding,
				buckets,
				eps;
	char		act[TXT_TEXT_SIZE],
				position_type[TXT_TEXT_SIZE];
	bool		decoder,
				cross,
				quantized,
				own_code;
} config;

static bool
read_members(const txt_folder *f, const txt_file *file, const family *family, config *c)
{
	const txt_member m[] = {
		{family->hidden, IS_NUMBER, &c->hidden},
		{family->layers, IS_NUMBER, &c->layers},
		{family->heads, IS_NUMBER, &c->heads},
		{family->intermediate, IS_NUMBER, &c->intermediate},
		{family->act, IS_TEXT, c->act},
		{"vocab_size", IS_NUMBER, &c->vocabulary},
		{"max_position_embeddings", IS_NUMBER, &c->positions},
		{"type_vocab_size", IS_NUMBER, &c->types},
		{"pad_token_id", IS_NUMBER, &c->padding},
		{"relative_attention_num_buckets", IS_NUMBER, &c->buckets},
		{"layer_norm_eps", IS_NUMBER, &c->eps},
		{"position_embedding_type", IS_TEXT, c->position_type},
		{"is_decoder", IS_BOOL, &c->decoder},
		{"add_cross_attention", IS_BOOL, &c->cross},
		{"quantization_config", IS_ANYTHING, &c->quantized},
		{"auto_map", IS_ANYTHING, &c->own_code},
	};

	*c = (config) {
		.hidden = NAN,.layers = NAN,.heads = NAN,.intermediate = NAN,.vocabulary = NAN,.positions = NAN,
		.types = 2,.padding = 1,.buckets = 32,.eps = 1e-12,.act = "gelu",.position_type = "absolute"
	};
	return txt_read_json(f, file, m, sizeof(m) / sizeof(m[0]));
}

/* What transformers would do and we do not. */
static bool
check_supported(const txt_folder *f, const txt_file *file, const config *c)
{
	if (c->decoder || c->cross)
		return unsupported(f, file, c->decoder ? "is_decoder" : "add_cross_attention", "true");
	if (c->quantized || c->own_code)
		return unsupported(f, file, c->quantized ? "quantization_config" : "auto_map", "{...}");
	if (strcmp(c->position_type, "absolute") != 0)
		return unsupported(f, file, "position_embedding_type", c->position_type);
	return true;
}

bool
txt_read_config(txt_folder *f)
{
	txt_hf	   *hf = f->hf;
	txt_encoder_info *info = &hf->info;
	const txt_file *file = txt_folder_find(f, "config.json");
	const family *family;
	config		c;
	int32_t		positions,
				types,
				buckets;

	if (file == NULL)
	{
		mr_fail(f->st, MR_INVALID, "the model's folder has no file \"%.80sconfig.json\"", f->dir);
		return false;
	}
	family = find_family(f, file);
	if (family == NULL || !read_members(f, file, family, &c) || !check_supported(f, file, &c) ||
		!txt_whole(f, file, family->hidden, c.hidden, 1, MAX_HIDDEN, &info->hidden) ||
		!txt_whole(f, file, family->layers, c.layers, 1, TXT_MAX_LAYERS, &info->layers) ||
		!txt_whole(f, file, family->heads, c.heads, 1, MAX_HEADS, &info->heads) ||
		!txt_whole(f, file, family->intermediate, c.intermediate, 1, MAX_INTERMEDIATE, &info->intermediate) ||
		!txt_whole(f, file, "vocab_size", c.vocabulary, 1, MAX_VOCABULARY, &info->vocabulary) ||
		!txt_whole(f, file, "max_position_embeddings", c.positions, 1, MAX_POSITIONS, &positions) ||
		!txt_whole(f, file, "type_vocab_size", c.types, 1, MAX_HIDDEN, &types) ||
		!txt_whole(f, file, "relative_attention_num_buckets", c.buckets, 32, MAX_HIDDEN, &buckets) ||
		!find_act(f, file, family->act, c.act))
		return false;
	if (info->hidden % info->heads != 0)
	{
		mr_fail(f->st, MR_INVALID, "\"%s\" %d is no multiple of \"%s\" %d", family->hidden, info->hidden, family->heads, info->heads);
		return txt_in_file(f, file);
	}
	if (!(c.eps >= 0 && c.eps < 1))
	{
		mr_fail(f->st, MR_INVALID, "\"layer_norm_eps\" is %g, and must be from 0 to 1", c.eps);
		return txt_in_file(f, file);
	}

	/* transformers has DistilBERT's eps, and MPNet's padding and buckets, in its code */
	info->family = family->family;
	hf->eps = (float) (info->family == txt_distilbert ? 1e-12 : c.eps);
	hf->padding = -1;
	if (family->padded &&
		!txt_whole(f, file, "pad_token_id", info->family == txt_mpnet ? 1 : c.padding, 0, positions - 2, &hf->padding))
		return false;
	hf->first_position = hf->padding + 1;
	info->max_tokens = positions - hf->first_position;

	/* shapes that the tensors must have */
	hf->positions.dims[0] = positions;
	if (info->family == txt_bert || info->family == txt_roberta)
		hf->types.dims[0] = types;
	if (info->family == txt_mpnet)
	{
		hf->relative.dims[0] = buckets;
		hf->relative_buckets = 32;
	}
	return true;
}
