/*
 * read_vocab.c
 *	  vocab.txt: BERT's vocabulary, a token a line.  What it does not say is as
 *	  BERT's tokenizer has it: [UNK], [CLS] … [SEP], words of 100 characters.
 */
#include "text/text_int.h"

mr_code
txt_compile_vocab(const mr_env *env, const char *vocab, size_t len, const txt_vocab_options *options,
				  void **out, size_t *out_len, mr_status *st)
{
	static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
	txt_source	s = {.env = env, .st = st};
	const char *p = vocab,
			   *end = vocab + len;
	mr_code		code = MR_INVALID;
	int32_t		id;

	*out = NULL;
	s.head.model = TXT_WORDPIECE;
	s.head.max_word = 100;
	s.head.continuation = 1;
	s.head.normalize[s.head.n_normalize++] = (txt_step) {
		.op = TXT_BERT,
		.flag = (uint16_t) (TXT_CLEAN | (options->chinese ? TXT_CHINESE : 0) | (options->strip_accents ? TXT_ACCENTS : 0) |
							(options->lowercase ? TXT_LOWER : 0))
	};
	s.head.split[s.head.n_split++] = (txt_step) {.op = TXT_SPLIT_BERT};
	if (len > TXT_MAX_FILE)
	{
		mr_fail(st, MR_LIMIT, "the tokenizer's file has more than %d MB", TXT_MAX_FILE >> 20);
		goto done;
	}
	if (!txt_check_utf8(&s, vocab, len))
		goto done;
	for (size_t i = 0; p < end; i++)
	{
		const char *line = p;

		p = memchr(p, '\n', (size_t) (end - p));
		if (p == NULL)
			p = end;
		if (!txt_set_token(&s, i, line, (size_t) (p - line) - (p > line && p[-1] == '\r')))
			goto done;
		p += p < end;
	}
	for (int i = 0; i < (int) (sizeof(special) / sizeof(special[0])); i++)
		if (txt_find_token(&s, special[i], strlen(special[i]), &id))
		{
			if (!txt_add_added(&s, id, 0, false, special[i], strlen(special[i])))
				goto done;
			if (i == 1)
				s.head.unknown = id;
			else if (i == 2)
				s.head.before[s.head.n_before++] = id;
			else if (i == 3)
				s.head.after[s.head.n_after++] = id;
		}
		else if (i >= 1 && i <= 3)
		{
			mr_fail(st, MR_INVALID, "the vocabulary has no token %s", special[i]);
			goto done;
		}
	code = txt_lay_out(&s, out, out_len);
done:
	txt_source_free(&s);
	return code == MR_OK ? MR_OK : st->code;
}
