/*
 * test_text_hf.c
 *	  A model's folder with mistakes: each is refused by a message that names
 *	  file and part; damaged bytes never do more.  That the numbers are right:
 *	  t/test_text_encoders.py.
 */
#include <math.h>

#include "text/hf.h"
#include "text_make.h"
#include "unit.h"

/* ---- what a good folder says ---- */

static void
good_folder(void)
{
	made_folder f = made_bert();
	size_t		len;
	void	   *bundle = made_bundle(&f, &len);
	txt_encoder_info info;
	mr_status	st = {0};

	if (!ok(txt_encoder_check(&mr_env_malloc, bundle, len, &info, &st) == MR_OK, "a small BERT is good"))
		printf("# %s\n", st.message);
	ok(info.family == txt_bert && info.layers == 1 && info.hidden == 4 && info.heads == 2 && info.intermediate == 6 && info.vocabulary == 8,
	   "its sizes");
	ok(info.max_tokens == 10 && info.embed_tokens == 7, "it takes 10 tokens, texts are cut to 7");
	ok(info.pooling == txt_pool_cls && info.normalize, "its pooling");
	ok(info.n_parameters == 242, "its parameters: %lld", (long long) info.n_parameters);
	mr_free(&mr_env_malloc, bundle);
	made_free(&f);
}

/* Edits that change what is said, and are good. */
static void
variants(void)
{
	static const struct
	{
		const char *file,
				   *from,
				   *to;
		int			pooling,
					normalize,
					embed_tokens;
	}			variant[] = {
		{"1_Pooling/config.json", "{\"pooling_mode_cls_token\":true", "{\"pooling_mode\":\"max\",\"x\":true", txt_pool_max, 1, 7},
		{"1_Pooling/config.json", "{\"pooling_mode_cls_token\":true", "{\"pooling_mode\":[\"mean_sqrt_len_tokens\"],\"x\":true", txt_pool_mean_sqrt, 1, 7},
		{"1_Pooling/config.json", "cls_token\":true", "cls_token\":false", txt_pool_mean, 1, 7},
		{"modules.json", ",{\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}", "", txt_pool_cls, 0, 7},
		{"modules.json", "sentence_transformers.models.Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling", txt_pool_cls, 1, 7},
		{"sentence_bert_config.json", "7", "null", txt_pool_cls, 1, 9},
		{"sentence_bert_config.json", "7", "700", txt_pool_cls, 1, 10},
		{"tokenizer_config.json", "9", "1e30", txt_pool_cls, 1, 7},
		{"config.json", "\"hidden_act\":\"gelu\"", "\"hidden_act\":\"gelu_new\",\"position_embedding_type\":\"absolute\"", txt_pool_cls, 1, 7},
		{"model.safetensors", "{\"emb", "{\"__metadata__\":{\"format\":\"pt\"},\"emb", txt_pool_cls, 1, 7},
		{"model.safetensors", "LayerNorm.bias", "LayerNorm.beta", txt_pool_cls, 1, 7},
		{"model.safetensors", "]}}", "]}}   ", txt_pool_cls, 1, 7},
	};

	for (size_t i = 0; i < sizeof(variant) / sizeof(variant[0]); i++)
	{
		made_folder f = made_bert();
		txt_encoder_info info = {0};
		mr_status	st = {0};
		size_t		len;
		void	   *bundle;
		bool		edited = made_edit(&f, variant[i].file, variant[i].from, variant[i].to);

		bundle = made_bundle(&f, &len);
		if (!ok(edited && txt_encoder_check(&mr_env_malloc, bundle, len, &info, &st) == MR_OK && info.pooling == variant[i].pooling &&
				info.normalize == variant[i].normalize && info.embed_tokens == variant[i].embed_tokens,
				"%s: %.60s", variant[i].file, variant[i].to))
			printf("# %s; %d %d %d\n", st.message, info.pooling, info.normalize, info.embed_tokens);
		mr_free(&mr_env_malloc, bundle);
		made_free(&f);
	}
}

/* ---- tokenizers: what tokenizer_config.json and sentence_bert_config.json say of tokenizer.json ---- */

/* Numbers of the text's tokens, as "2 5 3", with these in the files. */
static void
tokens(const char *json_lower, const char *config, const char *sentence, const char *text, const char *expected)
{
	static const char json[] = "{\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"lowercase\":LOWER},"
		"\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
		"\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"a\":5,\"\xc3\xa4\":6,\"A\":7}}}";
	made_folder f = made_bert();
	txt_hf	   *hf = malloc(sizeof(txt_hf));
	mr_status	st = {0};
	txt_bundle	b;
	txt_tokenizer t;
	txt_tokens	list;
	txt_work   *w = txt_work_create(&mr_env_malloc, &st);
	void	   *bundle,
			   *bytes = NULL;
	size_t		len;
	char		got[64] = "";

	strcpy(made_find(&f, "vocab.txt")->name, "tokenizer.json");
	free(made_find(&f, "tokenizer.json")->text);
	made_find(&f, "tokenizer.json")->text = strdup(json);
	made_edit(&f, "tokenizer.json", "LOWER", json_lower);
	made_edit(&f, "tokenizer_config.json", "{\"do_lower_case\":true,", config);
	made_edit(&f, "sentence_bert_config.json", "false", sentence);
	bundle = made_bundle(&f, &len);
	if (txt_bundle_open(bundle, len, &b, &st) == MR_OK && txt_hf_read(&mr_env_malloc, &b, hf, &st) == MR_OK &&
		txt_hf_tokenizer(&mr_env_malloc, hf, &bytes, &len, &st) == MR_OK && txt_open(bytes, len, &t, &st) == MR_OK &&
		txt_encode(&t, w, text, strlen(text), &(txt_limits) {false, 0}, &list, &st) == MR_OK)
		for (int i = 0; i < list.n; i++)
			sprintf(got + strlen(got), "%s%d", i ? " " : "", list.token[i].id);
	else
		snprintf(got, sizeof(got), "%.60s", st.message);
	if (!ok(strcmp(got, expected) == 0, "tokenizer.json %s, %s, sentence-transformers %s", json_lower, config, sentence))
		printf("# %s, expected %s\n", got, expected);
	mr_free(&mr_env_malloc, bytes);
	mr_free(&mr_env_malloc, bundle);
	txt_work_free(w);
	made_free(&f);
	free(hf);
}

static void
tokenizers(void)
{
	tokens("true", "{", "false", "A \xc3\xa4", "5 5");
	tokens("false", "{", "false", "A \xc3\xa4", "7 6");
	tokens("true", "{\"do_lower_case\":false,", "false", "A \xc3\xa4", "7 6");
	tokens("false", "{\"do_lower_case\":true,", "false", "A \xc3\xa4", "5 5");
	tokens("false", "{\"do_lower_case\":true,\"strip_accents\":false,", "false", "A \xc3\xa4", "5 6");
	tokens("true", "{\"do_lower_case\":false,\"strip_accents\":null,", "false", "A \xc3\xa4", "7 6");
	tokens("false", "{", "true", "A \xc3\x84", "5 6");
	tokens("true", "{", "true", "A \xc3\x84", "5 5");
}

/* ---- mistakes ---- */

typedef struct mistake
{
	const char *file,
			   *from,
			   *to,
			   *message;
} mistake;

static const mistake mistakes[] = {
	/* config.json */
	{"config.json", "\"bert\"", "\"t5\"", "config.json: \"model_type\": \"t5\" is not supported"},
	{"config.json", "\"bert\"", "\"b\xc3\xa9\\n\"", "config.json: \"model_type\": \"b???\" is not supported"},
	{"config.json", "\"model_type\":\"bert\",", "", "config.json: there is no \"model_type\""},
	{"config.json", "\"hidden_size\":4", "\"hidden_size\":-4", "config.json: \"hidden_size\" is -4, and must be a whole number from 1 to 16384"},
	{"config.json", "\"hidden_size\":4", "\"hidden_size\":1e300", "config.json: \"hidden_size\" is 1e+300, and must be a whole number from 1 to 16384"},
	{"config.json", "\"hidden_size\":4", "\"hidden_size\":\"4\"", "config.json: invalid JSON at byte 36: expected a number"},
	{"config.json", "\"hidden_size\":4,", "", "config.json: there is no \"hidden_size\""},
	{"config.json", "\"num_hidden_layers\":1", "\"num_hidden_layers\":1000", "config.json: \"num_hidden_layers\" is 1000, and must be a whole number from 1 to 64"},
	{"config.json", "\"num_hidden_layers\":1", "\"num_hidden_layers\":2", "the model's files have no tensor \"encoder.layer.1.attention.self.query.weight\""},
	{"config.json", "\"num_attention_heads\":2", "\"num_attention_heads\":3", "config.json: \"hidden_size\" 4 is no multiple of \"num_attention_heads\" 3"},
	{"config.json", "\"gelu\"", "\"mish\"", "config.json: \"hidden_act\": \"mish\" is not supported"},
	{"config.json", "\"gelu\"", "\"gelu\",\"position_embedding_type\":\"relative_key\"", "config.json: \"position_embedding_type\": \"relative_key\" is not supported"},
	{"config.json", "\"gelu\"", "\"gelu\",\"is_decoder\":true", "config.json: \"is_decoder\": \"true\" is not supported"},
	{"config.json", "\"gelu\"", "\"gelu\",\"add_cross_attention\":true", "config.json: \"add_cross_attention\": \"true\" is not supported"},
	{"config.json", "\"gelu\"", "\"gelu\",\"quantization_config\":{}", "config.json: \"quantization_config\": \"{...}\" is not supported"},
	{"config.json", "1e-12", "7", "config.json: \"layer_norm_eps\" is 7, and must be from 0 to 1"},
	{"config.json", "\"vocab_size\":8", "\"vocab_size\":9", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" does not have the shape that config.json tells"},
	{"config.json", "}", "", "config.json: invalid JSON: it ends after"},
	{"config.json", "1e-12}", "1e-12}}", "expected the end"},
	{"config.json", "\"bert\"", "\"b\xff\"", "config.json: its JSON is not valid UTF-8"},
	{"config.json", "\"bert\"", "\"roberta\",\"pad_token_id\":9", "config.json: \"pad_token_id\" is 9, and must be a whole number from 0 to 8"},
	/* model.safetensors */
	{"model.safetensors", "\"embeddings.word_embeddings.weight\"", "\"x\"", "the model's files have no tensor \"embeddings.word_embeddings.weight\""},
	{"model.safetensors", "intermediate.dense.bias", "intermediate.dense.bais", "the model's files have no tensor \"encoder.layer.0.intermediate.dense.bias\""},
	{"model.safetensors", "[8,4]", "[4,8]", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" does not have the shape that config.json tells"},
	{"model.safetensors", "[8,4]", "[8,1,4]", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" does not have the shape that config.json tells"},
	{"model.safetensors", "[8,4]", "[8,5]", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" has offsets that do not fit its shape"},
	{"model.safetensors", "[8,4]", "[9007199254740992,9007199254740992]", "expected a tensor that is not so large"},
	{"model.safetensors", "[8,4]", "[1e17,4]", "expected a whole number"},
	{"model.safetensors", "[8,4]", "[-8,4]", "expected a whole number"},
	{"model.safetensors", "[8,4]", "[8.5,4]", "expected a whole number"},
	{"model.safetensors", "[0,128]", "[4,132]", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" has a gap before it"},
	{"model.safetensors", "[128,288]", "[124,284]", "model.safetensors: tensor \"embeddings.position_embeddings.weight\" overlaps another"},
	{"model.safetensors", "[0,128]", "[128,0]", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" lies outside the file"},
	{"model.safetensors", "[0,128]", "[9007199254740000,9007199254740128]", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" lies outside the file"},
	{"model.safetensors", "[0,128]", "[0]", "expected the two offsets of a tensor"},
	{"model.safetensors", "[0,128]", "[0,128,1]", "expected the two offsets of a tensor"},
	{"model.safetensors", ",\"shape\":[8,4]", "", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" lacks its dtype, shape or data_offsets"},
	{"model.safetensors", "F32\",\"shape\":[8,4]", "F64\",\"shape\":[8,2]", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" is of type F64, and must be F32, F16 or BF16"},
	{"model.safetensors", "\"embeddings.token_type_embeddings.weight\"", "\"embeddings.word_embeddings.weight\"", "model.safetensors: tensor \"embeddings.word_embeddings.weight\" is there twice"},
	{"model.safetensors", "{\"emb", "[\"emb", "model.safetensors: invalid JSON at byte 1: expected an object"},
	{"model.safetensors", "{\"emb", "{\"\\ud800\":{},\"emb", "half of a surrogate pair"},
	/* what else is there */
	{"vocab.txt", "a\n", "a\nd\n", "vocab.txt: it has 9 tokens, but the model only 8"},
	{"vocab.txt", "[UNK]", "UNK", "vocab.txt: the vocabulary has no token [UNK]"},
	{"vocab.txt", "a\n", "\xff\n", "vocab.txt: the tokenizer's file is not UTF-8 at byte"},
	{"tokenizer_config.json", "true", "\"yes\"", "tokenizer_config.json: invalid JSON at byte 18: expected true or false"},
	{"modules.json", ".Normalize", ".Dense", "modules.json: module \"sentence_transformers.models.Dense\" is not supported"},
	{"modules.json", ".Transformer", ".CLIPModel", "modules.json: module \"sentence_transformers.models.CLIPModel\" is not supported"},
	{"modules.json", ",{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"},{\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}",
	"", "modules.json: a model without a module Pooling is not supported"},
	{"modules.json", "1_Pooling", "../..", "modules.json: the model's folder has no file \"../../config.json\""},
	{"modules.json", "[{\"path\":\"\"", "[{\"path\":\"0_BERT\"", "the model's folder has no file \"0_BERT/config.json\""},
	{"1_Pooling/config.json", "mean_tokens\":false", "mean_tokens\":true", "1_Pooling/config.json: more than one mode of pooling is not supported"},
	{"1_Pooling/config.json", "pooling_mode_cls_token", "pooling_mode_lasttoken", "1_Pooling/config.json: pooling \"lasttoken\" is not supported"},
	{"1_Pooling/config.json", "{\"pooling_mode_cls_token\":true", "{\"pooling_mode\":\"median\",\"x\":true", "1_Pooling/config.json: pooling \"median\" is not supported"},
	{"sentence_bert_config.json", "7", "0", "sentence_bert_config.json: \"max_seq_length\" is 0, and must be a whole number from 1 to"},
	{"config.json", NULL, NULL, "the model's folder has no file \"config.json\""},
	{"model.safetensors", NULL, NULL, "the model's folder has no file \"model.safetensors\""},
	{"vocab.txt", NULL, NULL, "the model's folder has no file \"tokenizer.json\" and no \"vocab.txt\""},
};

/* A bundle's fault, "" if it is good, and its detail until the next one; the bundle is freed. */
static mr_status fault;

static const char *
fault_of_bundle(void *bundle, size_t len)
{
	txt_encoder_info info;
	mr_code		code;

	memset(&fault, 0, sizeof(fault));
	code = txt_encoder_check(&mr_env_malloc, bundle, len, &info, &fault);
	mr_free(&mr_env_malloc, bundle);
	return code == MR_OK ? "" : fault.message;
}

/* A folder's, which is freed. */
static const char *
fault_of(made_folder *f)
{
	size_t		len;
	void	   *bundle = made_bundle(f, &len);

	made_free(f);
	return fault_of_bundle(bundle, len);
}

static void
expect(const char *text, const char *message, const char *name)
{
	if (!ok(strstr(text, message) != NULL, "%s", name))
		printf("# \"%s\", expected \"%s\"\n", text, message);
}

static void
refusals(void)
{
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++)
	{
		const mistake *m = &mistakes[i];
		made_folder f = made_bert();

		if (m->from == NULL)
		{
			made_file  *file = made_find(&f, m->file);

			free(file->text);
			*file = f.file[--f.n];
		}
		else if (!made_edit(&f, m->file, m->from, m->to))
			printf("# %s: there is no %s\n", m->file, m->from);
		expect(fault_of(&f), m->message, m->message);
	}
}

/* ---- mistakes that no edit makes ---- */

static char *
repeated(const char *begin, const char *part, int n, const char *end)
{
	char	   *text = malloc(strlen(begin) + strlen(part) * (size_t) n + strlen(end) + 1);
	char	   *p = stpcpy(text, begin);

	for (int i = 0; i < n; i++)
		p = stpcpy(p, part);
	strcpy(p, end);
	return text;
}

static void
odd_files(void)
{
	made_folder f = made_bert();
	char	   *text;

	text = repeated("{\"x\":", "[", 100000, "");
	made_edit(&f, "config.json", "{", text);
	expect(fault_of(&f), "config.json: JSON is nested more than 256 levels deep", "nested config.json");
	free(text);

	f = made_bert();
	text = repeated("{\"__metadata__\":", "{\"a\":", 100000, "");
	made_edit(&f, "model.safetensors", "{", text);
	expect(fault_of(&f), "model.safetensors: JSON is nested more than 256 levels deep", "nested header");
	free(text);

	f = made_bert();
	made_find(&f, "model.safetensors")->data -= 4;
	expect(fault_of(&f), "lies outside the file", "data cut off");

	f = made_bert();
	made_find(&f, "model.safetensors")->data += 4;
	expect(fault_of(&f), "model.safetensors: 4 bytes behind the last tensor belong to none", "data too long");

	f = made_bert();
	text = repeated("\"", "x", 100000, "\"");
	made_edit(&f, "config.json", "\"bert\"", text);
	expect(fault_of(&f), "xxxx\" is not supported", "a very long name is cut");
	free(text);
}

/* Numbers of the file itself: its length, the header's, what is not finite. */
static void
bytes_of_safetensors(void)
{
	static const struct
	{
		uint64_t	header;
		size_t		len;
		const char *message;
	}			bad[] = {
		{0, 0, "model.safetensors: the file is cut off: it has 0 bytes, its header alone 0"},
		{0, 7, "model.safetensors: the file is cut off: it has 7 bytes, its header alone 0"},
		{0, 8, "model.safetensors: invalid JSON: it ends after 0 bytes, expected an object"},
		{1000, 100, "model.safetensors: the file is cut off: it has 100 bytes, its header alone 1000"},
		{UINT64_MAX, 100, "model.safetensors: the file is cut off"},
		{UINT64_MAX - 7, 100, "model.safetensors: the file is cut off"},
	};
	made_folder f = made_bert();
	char	   *weights = calloc(1, 1000);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		txt_file	file[2] = {{"config.json", f.file[0].text, strlen(f.file[0].text)}, {"model.safetensors", weights, bad[i].len}};
		mr_status	st = {0};
		void	   *bundle;
		size_t		len;

		memcpy(weights, &bad[i].header, 8);
		txt_bundle_write(&mr_env_malloc, file, 2, &bundle, &len, &st);
		expect(fault_of_bundle(bundle, len), bad[i].message, bad[i].message);
	}
	free(weights);
	made_free(&f);
}

static void
not_finite(void)
{
	made_folder f = made_bert();
	mr_status	st = {0};
	txt_bundle	b;
	size_t		len;
	void	   *bundle = made_bundle(&f, &len);
	float		nan = NAN;
	const txt_file *file;

	txt_bundle_open(bundle, len, &b, &st);
	file = txt_bundle_find(&b, "model.safetensors");
	memcpy((char *) file->data + file->len - 8, &nan, 4);
	expect(fault_of_bundle(bundle, len),
		   "model.safetensors: tensor \"encoder.layer.0.output.LayerNorm.bias\" has a number that is not finite", "NaN in a tensor");
	made_free(&f);
}

static void
shape_detail(void)
{
	made_folder f = made_bert();

	made_edit(&f, "model.safetensors", "[8,4]", "[4,1,8,1,1]");
	fault_of(&f);
	expect(fault.detail, "It is [4, 1, 8, 1] and should be [8, 4].", "a wrong shape is told");
}

/* ---- several files ---- */

static void
shards(void)
{
	static const char index[] = "{\"metadata\":{},\"weight_map\":{\"embeddings.word_embeddings.weight\":\"a.safetensors\",\"encoder.layer.0.output.dense.bias\":\"a.safetensors\"}}";
	made_folder f = made_bert();

	made_add(&f, "model.safetensors.index.json", index);
	ok(*fault_of(&f) == '\0', "model.safetensors comes before an index");

	f = made_bert();
	made_add(&f, "model.safetensors.index.json", index);
	strcpy(made_find(&f, "model.safetensors")->name, "b.safetensors");
	expect(fault_of(&f), "model.safetensors.index.json: file \"a.safetensors\" is not in the folder", "a file is missing");

	f = made_bert();
	made_add(&f, "model.safetensors.index.json", "{\"weight_map\":[]}");
	strcpy(made_find(&f, "model.safetensors")->name, "b.safetensors");
	expect(fault_of(&f), "model.safetensors.index.json: invalid JSON at byte 15: expected an object", "a wrong index");
}

/* ---- bundles ---- */

static void
bundles(void)
{
	static const char *const bad[] = {"", "/etc/passwd", "a/../b", "..", "a//b", "a/", "./a", "a\nb", "a\\b", "\xff"};
	txt_file	file[3] = {{"b", "2", 1}, {"a/c", "", 0}, {"a", "111", 3}};
	txt_file	turned[3] = {file[2], file[0], file[1]};
	mr_status	st = {0};
	txt_bundle	b;
	void	   *x,
			   *y;
	size_t		x_len,
				y_len,
				names,
				a;
	int			taken = 0;
	char		longest[257];

	txt_bundle_write(&mr_env_malloc, file, 3, &x, &x_len, &st);
	txt_bundle_write(&mr_env_malloc, turned, 3, &y, &y_len, &st);
	ok(x_len == y_len && memcmp(x, y, x_len) == 0, "the order of the files does not matter");
	ok(txt_is_bundle(x, x_len) && txt_bundle_open(x, x_len, &b, &st) == MR_OK && b.n == 3 && strcmp(b.file[1].name, "a/c") == 0,
	   "a bundle is read");
	ok(txt_bundle_find(&b, "b") && txt_bundle_find(&b, "b")->len == 1 && (uintptr_t) txt_bundle_find(&b, "b")->data % 64 == 0 &&
	   !txt_bundle_find(&b, "c"), "its files are found");
	names = (size_t) (b.file[0].name - (char *) x);
	a = (size_t) ((const char *) b.file[0].data - (char *) x);
	mr_free(&mr_env_malloc, y);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(txt_bundle_write(&mr_env_malloc, &(txt_file) {bad[i], "", 0}, 1, &y, &y_len, &st) == MR_INVALID, "name \"%s\" is refused",
		   i == 7 || i == 9 ? "…" : bad[i]);
	memset(longest, 'x', 256);
	longest[256] = '\0';
	ok(txt_bundle_write(&mr_env_malloc, &(txt_file) {longest, "", 0}, 1, &y, &y_len, &st) == MR_INVALID, "a name of 256 bytes is refused");
	turned[1].name = "a";
	ok(txt_bundle_write(&mr_env_malloc, turned, 3, &y, &y_len, &st) == MR_INVALID, "a name that is given twice is refused");

	/* every bit counts, the form being canonical, but those of names and contents */
	for (size_t i = 0; i < x_len; i++)
	{
		if ((i >= names && i < names + 8) || (i >= a && i < a + 3) || i == x_len - 1)
			continue;
		((char *) x)[i] ^= 1;
		taken += txt_bundle_open(x, x_len, &b, &st) == MR_OK;
		((char *) x)[i] ^= 1;
	}
	ok(taken == 0, "a bundle whose bytes are changed is refused");
	mr_free(&mr_env_malloc, x);
}

/* ---- damage at random: the sanitizers see the rest ---- */

static uint64_t seed = 1;

static uint32_t
next_random(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t) (seed >> 33);
}

static void
damage(void)
{
	static const char odd[] = "{}[]\",:0129-.eE\\u\xff\x80 n";
	made_folder f = made_bert();
	size_t		len;
	char	   *bundle = made_bundle(&f, &len);
	char	   *copy = aligned_alloc(64, (len + 63) / 64 * 64);
	txt_encoder_info info;
	mr_status	st = {0};
	int			taken = 0;

	for (size_t i = 0; i < len; i += 7)
	{
		memcpy(copy, bundle, i);
		taken += txt_encoder_check(&mr_env_malloc, copy, i, &info, &st) == MR_OK;
	}
	ok(taken == 0, "a bundle that is cut off anywhere is refused");
	for (int i = 0; i < 20000; i++)
	{
		memcpy(copy, bundle, len);
		for (int k = next_random() % 4; k >= 0; k--)
			copy[512 + next_random() % (len - 512)] = next_random() % 3 ? odd[next_random() % (sizeof(odd) - 1)] : (char) next_random();
		taken += txt_encoder_check(&mr_env_malloc, copy, len, &info, &st) == MR_OK;
	}
	ok(taken > 100 && taken < 19900, "damaged folders: %d of 20000 are still good", taken);
	free(copy);
	mr_free(&mr_env_malloc, bundle);
	made_free(&f);
}

/* ---- numbers ---- */

static void
numbers(void)
{
	static const uint16_t half[] = {0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0x0000, 0x8000};
	static const float of_half[] = {1, -2, 0x1p-24f, -0x3ffp-24f, 65504, 0, -0.0f};
	static const uint16_t bf[] = {0x3f80, 0xc000, 0x0001};
	char		bytes[64];
	float		out[8];
	txt_tensor	t = {.data = bytes + 1,.dtype = nn_float16,.rank = 1,.dims = {7}};

	memcpy(bytes + 1, half, sizeof(half));
	txt_tensor_floats(&t, 0, 7, out);
	ok(memcmp(out, of_half, sizeof(of_half)) == 0, "float16, subnormal ones too, at an odd address");
	txt_tensor_floats(&t, 4, 1, out);
	ok(out[0] == 65504, "float16 from an element on");
	memcpy(bytes + 1, bf, sizeof(bf));
	t.dtype = nn_bfloat16;
	txt_tensor_floats(&t, 0, 3, out);
	ok(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-133f, "bfloat16");
}

int
main(void)
{
	good_folder();
	variants();
	tokenizers();
	refusals();
	odd_files();
	bytes_of_safetensors();
	not_finite();
	shape_detail();
	shards();
	bundles();
	damage();
	numbers();
	return done_testing();
}
