/*
 * hf_graph.c
 *	  A folder whose network is a model.onnx: config.json need not be of a family
 *	  we know, nor be there; it tells how long sequences may be.
 */
#include "text/hf_int.h"

#include <math.h>

#define MAX_TOKENS 2048			/* of a sequence: plans are made for the longest */

const txt_file *
txt_find_graph(const txt_folder *f)
{
	const txt_file *file = txt_folder_find(f, "model.onnx");

	return file ? file : txt_folder_find(f, "onnx/model.onnx");
}

/* Do positions begin behind that of the padding? */
static bool
padded(const char *type)
{
	return strcmp(type, "roberta") == 0 || strcmp(type, "xlm-roberta") == 0 || strcmp(type, "camembert") == 0 ||
		strcmp(type, "mpnet") == 0;
}

static int32_t
whole_or(double value, int32_t most, int32_t otherwise)
{
	return value >= 1 && value <= most && value == floor(value) ? (int32_t) value : otherwise;
}

bool
txt_read_graph(txt_folder *f)
{
	txt_hf	   *hf = f->hf;
	txt_encoder_info *info = &hf->info;
	const txt_file *file = txt_folder_find(f, "config.json");
	char		type[TXT_TEXT_SIZE] = "";
	double		layers = NAN,
				heads = NAN,
				intermediate = NAN,
				vocabulary = NAN,
				positions = NAN,
				padding = 0;
	const txt_member m[] = {
		{"model_type", IS_TEXT, type},
		{"num_hidden_layers", IS_NUMBER, &layers},
		{"n_layers", IS_NUMBER, &layers},
		{"num_attention_heads", IS_NUMBER, &heads},
		{"n_heads", IS_NUMBER, &heads},
		{"intermediate_size", IS_NUMBER, &intermediate},
		{"hidden_dim", IS_NUMBER, &intermediate},
		{"vocab_size", IS_NUMBER, &vocabulary},
		{"max_position_embeddings", IS_NUMBER, &positions},
		{"pad_token_id", IS_NUMBER, &padding},
	};

	if (file && !txt_read_json(f, file, m, sizeof(m) / sizeof(m[0])))
		return false;
	info->family = txt_graph;
	info->layers = whole_or(layers, TXT_MAX_LAYERS, 1);
	info->heads = whole_or(heads, INT32_MAX, 0);
	info->intermediate = whole_or(intermediate, INT32_MAX, 0);
	info->vocabulary = whole_or(vocabulary, 1 << 22, 0);
	hf->padding = whole_or(padding, 1 << 22, 0);
	if (padded(type))
		positions -= hf->padding + 1;
	info->max_tokens = positions > MAX_TOKENS ? MAX_TOKENS : whole_or(positions, MAX_TOKENS, 512);
	return true;
}
