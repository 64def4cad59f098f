/*
 * read_json.c
 *	  tokenizer.json, as the tokenizers library writes it.  Parts that change no
 *	  token are passed over (decoder, padding, truncation); of the others what we
 *	  do not do is refused by name.  Steps: read_steps.c; template: read_template.c.
 */
#include <math.h>

#include "text/read_json.h"

bool
txt_unsupported(txt_reader *r, const char *what, const char *name)
{
	mr_fail(r->js.st, MR_UNSUPPORTED, "tokenizer's %s \"%s\" is not supported", what, name);
	return false;
}

bool
txt_peek_type(txt_reader *r, char *type)
{
	const char *p = r->js.p;
	const txt_member m[] = {{"type", IS_TEXT, type}};

	type[0] = '\0';
	if (!txt_read_members(&r->js, m, 1))
		return false;
	r->js.p = p;
	return true;
}

/* ---- strings of any length ---- */

/* The string at p, kept with the source. */
static bool
read_string(txt_reader *r, const char **data, size_t *len)
{
	const char *content;
	bool		escaped;
	char	   *copy;

	if (!mr_json_string(&r->js, &content, len, &escaped))
		return false;
	*data = content;
	if (!escaped)
		return true;
	copy = txt_keep(&r->s, *len);
	*data = copy;
	return copy && mr_json_unescape(&r->js, content, *len, copy, len);
}

bool
txt_read_id(txt_reader *r, int32_t *id)
{
	double		d;

	if (!mr_json_number(&r->js, &d))
		return false;
	if (!(d >= 0 && d < (1 << 22)) || d != floor(d))
		return mr_json_syntax(&r->js, "the number of a token");
	*id = (int32_t) d;
	return true;
}

/* ---- added tokens ---- */

static bool
read_added(txt_reader *r)
{
	int			n = 0,
				more;

	if (!mr_json_open(&r->js, '['))
		return false;
	while ((more = mr_json_next(&r->js, '[', &n)) > 0)
	{
		const char *p = r->js.p,
				   *content = NULL;
		size_t		len = 0;
		double		id = -1;
		bool		single = false,
					left = false,
					right = false,
					normal = true;
		const txt_member m[] = {{"id", IS_NUMBER, &id}, {"single_word", IS_BOOL, &single}, {"lstrip", IS_BOOL, &left}, {"rstrip", IS_BOOL, &right},
		{"normalized", IS_BOOL, &normal}};
		char		key[NAME];
		int			members = 0;

		if (!txt_read_members(&r->js, m, 5))
			return false;
		r->js.p = p;
		if (!mr_json_open(&r->js, '{'))
			return false;
		while (mr_json_key(&r->js, &members, key, sizeof(key)) > 0)
			if (!(strcmp(key, "content") == 0 ? read_string(r, &content, &len) : mr_json_skip(&r->js)))
				return false;
		if (content == NULL || !(id >= 0 && id < (1 << 22)))
			return mr_json_syntax(&r->js, "id and content of an added token");
		if (!txt_add_added(&r->s, (int32_t) id, (single ? TXT_SINGLE_WORD : 0) | (left ? TXT_LSTRIP : 0) | (right ? TXT_RSTRIP : 0),
						   normal, content, len))
			return false;
	}
	return more == 0;
}

/* ---- models ---- */

/* {"token": id, …}, or of a unigram [["token", score], …] */
static bool
read_vocabulary(txt_reader *r)
{
	int			n = 0,
				more;
	const char *data;
	size_t		len;
	int32_t		id;

	if (r->s.head.model == TXT_UNIGRAM)
	{
		if (!mr_json_open(&r->js, '['))
			return false;
		while ((more = mr_json_next(&r->js, '[', &n)) > 0)
		{
			int			inner = 0;
			size_t		at = r->s.n_tokens;
			double		score;

			if (!mr_json_open(&r->js, '[') || mr_json_next(&r->js, '[', &inner) <= 0 || !read_string(r, &data, &len) ||
				mr_json_next(&r->js, '[', &inner) <= 0 || !mr_json_number(&r->js, &score) || mr_json_next(&r->js, '[', &inner) != 0)
				return r->js.st->code ? false : mr_json_syntax(&r->js, "a piece and its score");
			if (!txt_set_token(&r->s, at, data, len))
				return false;
			r->s.scores[at] = score;
		}
		return more == 0;
	}
	if (!mr_json_open(&r->js, '{'))
		return false;
	while ((more = mr_json_next(&r->js, '{', &n)) > 0)
	{
		if (!read_string(r, &data, &len))
			return false;
		if (mr_json_peek(&r->js) != ':')
			return mr_json_syntax(&r->js, "a colon");
		r->js.p++;
		if (!txt_read_id(r, &id) || !txt_set_token(&r->s, (size_t) id, data, len))
			return false;
	}
	return more == 0;
}

/* ["a b", …] or [["a", "b"], …] */
static bool
read_merges(txt_reader *r)
{
	int			n = 0,
				more;

	if (!mr_json_open(&r->js, '['))
		return false;
	while ((more = mr_json_next(&r->js, '[', &n)) > 0)
	{
		const char *left,
				   *right;
		size_t		left_len,
					right_len;

		if (mr_json_peek(&r->js) == '[')
		{
			int			inner = 0;

			r->js.p++;
			if (mr_json_next(&r->js, '[', &inner) <= 0 || !read_string(r, &left, &left_len) ||
				mr_json_next(&r->js, '[', &inner) <= 0 || !read_string(r, &right, &right_len) || mr_json_next(&r->js, '[', &inner) != 0)
				return r->js.st->code ? false : mr_json_syntax(&r->js, "the two tokens of a merge");
		}
		else
		{
			if (!read_string(r, &left, &left_len))
				return false;
			right = memchr(left, ' ', left_len);
			if (right == NULL)
				return mr_json_syntax(&r->js, "the two tokens of a merge");
			right++;
			right_len = left_len - (size_t) (right - left);
			left_len -= right_len + 1;
		}
		if (!txt_add_merge(&r->s, left, left_len, right, right_len))
			return false;
	}
	return more == 0;
}

static bool
read_model(txt_reader *r)
{
	static const char *const names[] = {"", "WordPiece", "BPE", "Unigram"};
	char		type[256],
				prefix[256] = "",
				suffix[256] = "",
				key[NAME];
	const char *p = r->js.p;
	bool		fallback = false;
	double		most = 100;
	const txt_member m[] = {{"unk_token", IS_TEXT, r->unknown}, {"continuing_subword_prefix", IS_TEXT, prefix},
	{"end_of_word_suffix", IS_TEXT, suffix}, {"max_input_chars_per_word", IS_NUMBER, &most},
	{"byte_fallback", IS_BOOL, &fallback}, {"unk_id", IS_NUMBER, &r->unk_id}};
	int			n = 0,
				more;

	if (!txt_peek_type(r, type) || !txt_read_members(&r->js, m, 6))
		return false;
	for (int i = TXT_WORDPIECE; i <= TXT_UNIGRAM; i++)
		if (strcmp(type, names[i]) == 0)
			r->s.head.model = (uint32_t) i;
	if (r->s.head.model == 0)
		return txt_unsupported(r, "model", type);
	if (fallback)
		return txt_unsupported(r, "model option", "byte_fallback");
	if (suffix[0])
		return txt_unsupported(r, "end_of_word_suffix", suffix);
	if (strcmp(prefix, r->s.head.model == TXT_WORDPIECE ? "##" : "") != 0)
		return txt_unsupported(r, "continuing_subword_prefix", prefix);
	r->s.head.max_word = most >= 0 && most < 1e9 ? (uint32_t) most : 100;
	r->s.head.continuation = r->s.head.model == TXT_WORDPIECE;
	r->s.head.fuse_unknown = 1;
	r->js.p = p;
	if (!mr_json_open(&r->js, '{'))
		return false;
	while ((more = mr_json_key(&r->js, &n, key, sizeof(key))) > 0)
		if (!(strcmp(key, "vocab") == 0 ? read_vocabulary(r) : strcmp(key, "merges") == 0 ? read_merges(r) : mr_json_skip(&r->js)))
			return false;
	r->has_model = true;
	return more == 0;
}

/* ---- the file ---- */

static bool
read_file(txt_reader *r)
{
	char		key[NAME];
	int			n = 0,
				more;

	if (!mr_json_open(&r->js, '{'))
		return false;
	while ((more = mr_json_key(&r->js, &n, key, sizeof(key))) > 0)
		if (!(strcmp(key, "added_tokens") == 0 ? read_added(r) :
			  strcmp(key, "normalizer") == 0 ? txt_read_steps(r, false, 0) :
			  strcmp(key, "pre_tokenizer") == 0 ? txt_read_steps(r, true, 0) :
			  strcmp(key, "post_processor") == 0 ? txt_read_template(r, 0) :
			  strcmp(key, "model") == 0 ? read_model(r) : mr_json_skip(&r->js)))
			return false;
	if (more < 0)
		return false;
	if (mr_json_peek(&r->js) != '\0')
		return mr_json_syntax(&r->js, "the end");
	return true;
}

static bool
resolve(txt_reader *r)
{
	txt_head   *h = &r->s.head;
	double		least = 0;

	if (!r->has_model)
	{
		mr_fail(r->js.st, MR_INVALID, "the file has no model: it is no tokenizer.json");
		return false;
	}
	if (h->model == TXT_BPE && !r->s.byte_level)
		return txt_unsupported(r, "model", "BPE that is not byte-level");
	/* added tokens may lie beyond the model's vocabulary */
	for (size_t i = 0; i < r->s.n_added; i++)
		if (!txt_set_token(&r->s, (size_t) r->s.added[i].id, r->s.added_text[i].data, r->s.added_text[i].len))
			return false;
	h->unknown = -1;
	if (h->model == TXT_UNIGRAM)
		h->unknown = r->unk_id >= 0 && r->unk_id < (double) r->s.n_tokens ? (int32_t) r->unk_id : -1;
	else if (r->unknown[0])
		txt_find_token(&r->s, r->unknown, strlen(r->unknown), &h->unknown);
	if (h->unknown < 0 && h->model != TXT_BPE)
	{
		mr_fail(r->js.st, MR_INVALID, "the vocabulary has no token for what is unknown");
		return false;
	}
	for (size_t i = 0; i < r->s.n_tokens; i++)
		if (r->s.scores[i] < least)
			least = r->s.scores[i];
	h->unknown_score = least - 10;
	for (int i = 0; i < r->n_before + r->n_after; i++)
	{
		bool		after = i >= r->n_before;
		int			at = after ? TXT_MAX_TEMPLATE + i - r->n_before : i;

		if (r->item_id[at] < 0 || r->item_id[at] >= (int64_t) r->s.n_tokens)
		{
			mr_fail(r->js.st, MR_INVALID, "the template's token \"%s\" has no number", r->item[at]);
			return false;
		}
		if (after)
			h->after[h->n_after++] = r->item_id[at];
		else
			h->before[h->n_before++] = r->item_id[at];
	}
	return true;
}

mr_code
txt_compile_json(const mr_env *env, const char *json, size_t len, void **out, size_t *out_len, mr_status *st)
{
	txt_reader *r = mr_alloc(env, sizeof(txt_reader));
	mr_code		code;

	*out = NULL;
	if (r == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory");
	memset(r, 0, sizeof(*r));
	memset(st, 0, sizeof(*st));
	r->js = (mr_json) {json, json, json + len, st};
	r->s.env = env;
	r->s.st = st;
	r->unk_id = -1;
	if (len > TXT_MAX_FILE)
		code = mr_fail(st, MR_LIMIT, "the tokenizer's file has more than %d MB", TXT_MAX_FILE >> 20);
	else
		code = txt_check_utf8(&r->s, json, len) && read_file(r) && resolve(r) ? txt_lay_out(&r->s, out, out_len) : st->code;
	txt_source_free(&r->s);
	mr_free(env, r);
	return code;
}
