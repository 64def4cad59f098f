/*
 * hf_tokenizer.c
 *	  Which tokenizer a model's folder has, and how long its texts may be.
 */
#include "text/hf_int.h"

#include <math.h>

#include "text/text_int.h"

/* tokenizer.json says nearly all; vocab.txt is BERT's, and tokenizer_config.json says the rest. */
bool
txt_choose_tokenizer(txt_folder *f)
{
	txt_hf	   *hf = f->hf;
	txt_encoder_info *info = &hf->info;
	const txt_file *file = txt_folder_find(f, "tokenizer_config.json");
	double		longest = NAN;
	bool		lowercase = true,
				chinese = true,
				strip = false,
				strip_given = false;
	const txt_member m[] = {{"model_max_length", IS_NUMBER, &longest}, {"do_lower_case", IS_BOOL, &lowercase},
	{"tokenize_chinese_chars", IS_BOOL, &chinese}, {"strip_accents", IS_BOOL, &strip}};
	const txt_member given[] = {{"strip_accents", IS_ANYTHING, &strip_given}, {"do_lower_case", IS_ANYTHING, &hf->vocab_options_given}};

	if (file && (!txt_read_json(f, file, m, 4) || !txt_read_json(f, file, given, 2)))
		return false;
	hf->tokenizer_json = txt_folder_find(f, "tokenizer.json");
	if (hf->tokenizer_json == NULL)
		hf->vocab_txt = txt_folder_find(f, "vocab.txt");
	hf->vocab_options = (txt_vocab_options) {
		.lowercase = lowercase,.strip_accents = strip_given ? strip : lowercase,.chinese = chinese
	};
	if (hf->tokenizer_json == NULL && hf->vocab_txt == NULL)
	{
		mr_fail(f->st, MR_INVALID, "the model's folder has no file \"%.80stokenizer.json\" and no \"vocab.txt\"", f->dir);
		mr_hint(f->st, "Save the tokenizer with AutoTokenizer.from_pretrained(model).save_pretrained(folder) of transformers.");
		return false;
	}

	if (!isnan(f->max_seq_length))
		longest = f->max_seq_length;
	info->embed_tokens = longest >= 1 && longest < info->max_tokens ? (int32_t) longest : info->max_tokens;
	return true;
}

/* As transformers does: where tokenizer_config.json says how BERT's normalizer works, tokenizer.json does not. */
static void
set_bert_options(txt_head *h, const txt_vocab_options *o)
{
	if (h->model == TXT_WORDPIECE && h->n_normalize == 1 && h->normalize[0].op == TXT_BERT)
		h->normalize[0].flag = (uint16_t) ((h->normalize[0].flag & TXT_CLEAN) | (o->lowercase ? TXT_LOWER : 0) |
										   (o->strip_accents ? TXT_ACCENTS : 0) | (o->chinese ? TXT_CHINESE : 0));
}

/* sentence-transformers' do_lower_case: a normalizer before the others, unless one of them does it. */
static bool
lowercase_first(txt_head *h, mr_status *st)
{
	for (uint32_t i = 0; i < h->n_normalize; i++)
		if (h->normalize[i].op == TXT_LOWERCASE || (h->normalize[i].op == TXT_BERT && (h->normalize[i].flag & TXT_LOWER)))
			return true;
	if (h->n_normalize == TXT_MAX_STEPS)
	{
		mr_fail(st, MR_LIMIT, "the tokenizer has more than %d steps", TXT_MAX_STEPS - 1);
		return false;
	}
	memmove(h->normalize + 1, h->normalize, h->n_normalize * sizeof(txt_step));
	h->normalize[0] = (txt_step) {.op = TXT_LOWERCASE};
	h->n_normalize++;
	return true;
}

mr_code
txt_hf_tokenizer(const mr_env *env, const txt_hf *hf, void **out, size_t *out_len, mr_status *st)
{
	const txt_file *file = hf->tokenizer_json ? hf->tokenizer_json : hf->vocab_txt;
	txt_folder	f = {.env = env, .st = st};	/* to name the file */
	txt_head   *head;
	int64_t		n;
	mr_code		code;

	*out = NULL;
	if (hf->tokenizer_json)
		code = txt_compile_json(env, file->data, file->len, out, out_len, st);
	else
		code = txt_compile_vocab(env, file->data, file->len, &hf->vocab_options, out, out_len, st);
	if (code == MR_OK)
	{
		head = *out;
		n = (int64_t) head->count[TXT_SECTION_TEXT_AT] - 1;
		if (hf->vocab_options_given)
			set_bert_options(head, &hf->vocab_options);
		if (hf->info.vocabulary > 0 && n > hf->info.vocabulary)
			code = mr_fail(st, MR_INVALID, "it has %lld tokens, but the model only %d", (long long) n, hf->info.vocabulary);
		else if (hf->lowercase && !lowercase_first(head, st))
			code = st->code;
	}
	if (code != MR_OK)
	{
		mr_free(env, *out);
		*out = NULL;
		txt_in_file(&f, file);
		txt_printable(st);
	}
	return code;
}
