/*
 * read_steps.c
 *	  The normalizers and pre-tokenizers of a tokenizer.json.  What we know is in
 *	  the table at the end.
 */
#include "core/base64.h"
#include "text/read_json.h"

/* ---- normalizers ---- */

static txt_step *
add_step(txt_reader *r, bool split, txt_op op, int flag)
{
	txt_step   *steps = split ? r->s.head.split : r->s.head.normalize;
	uint32_t   *n = split ? &r->s.head.n_split : &r->s.head.n_normalize;

	if (*n == TXT_MAX_STEPS)
	{
		mr_fail(r->js.st, MR_LIMIT, "the tokenizer has more than %d steps", TXT_MAX_STEPS);
		return NULL;
	}
	steps[*n] = (txt_step) {.op = (uint16_t) op, .flag = (uint16_t) flag};
	return &steps[(*n)++];
}

static bool
set_text(txt_reader *r, char *to, uint8_t *to_len, const char *text)
{
	if (strlen(text) > sizeof(((txt_step *) 0)->a))
		return txt_unsupported(r, "text", text);
	*to_len = (uint8_t) strlen(text);
	memcpy(to, text, *to_len);
	return true;
}

static bool
bert_normalizer(txt_reader *r)
{
	const char *p = r->js.p;
	bool		clean = true,
				chinese = true,
				lower = true,
				strip;
	const txt_member m[] = {{"clean_text", IS_BOOL, &clean}, {"handle_chinese_chars", IS_BOOL, &chinese}, {"lowercase", IS_BOOL, &lower}};
	const txt_member accents = {"strip_accents", IS_BOOL, &strip};

	if (!txt_read_members(&r->js, m, 3))
		return false;
	strip = lower;				/* where it is null */
	r->js.p = p;
	return txt_read_members(&r->js, &accents, 1) &&
		add_step(r, false, TXT_BERT, (clean ? TXT_CLEAN : 0) | (chinese ? TXT_CHINESE : 0) | (strip ? TXT_ACCENTS : 0) |
				 (lower ? TXT_LOWER : 0)) != NULL;
}

/* {"pattern": {"String": a} or {"Regex": " {2,}"}, "content": b} */
static bool
replace_normalizer(txt_reader *r)
{
	char		content[256] = "",
				key[NAME],
				kind[NAME] = "",
				pattern[256] = "";
	int			n = 0,
				more;
	txt_step   *s;

	if (!mr_json_open(&r->js, '{'))
		return false;
	while ((more = mr_json_key(&r->js, &n, key, sizeof(key))) > 0)
	{
		int			inner = 0;

		if (strcmp(key, "content") == 0)
		{
			if (!mr_json_text(&r->js, content, sizeof(content)))
				return false;
		}
		else if (strcmp(key, "pattern") == 0)
		{
			if (!mr_json_open(&r->js, '{') || mr_json_key(&r->js, &inner, kind, sizeof(kind)) <= 0 ||
				!mr_json_text(&r->js, pattern, sizeof(pattern)) || mr_json_next(&r->js, '{', &inner) != 0)
				return r->js.st->code ? false : mr_json_syntax(&r->js, "a pattern");
		}
		else if (!mr_json_skip(&r->js))
			return false;
	}
	if (more < 0)
		return false;
	if (strcmp(kind, "Regex") == 0 && strcmp(pattern, " {2,}") != 0)
		return txt_unsupported(r, "pattern", pattern);
	s = add_step(r, false, TXT_REPLACE, strcmp(kind, "Regex") == 0 ? TXT_REPEATED : 0);
	return s && set_text(r, s->a, &s->a_len, s->flag ? " " : pattern) && set_text(r, s->b, &s->b_len, content) &&
		(s->a_len > 0 || txt_unsupported(r, "pattern", ""));
}

static bool
charsmap_normalizer(txt_reader *r)
{
	char		key[NAME];
	int			n = 0,
				more;

	if (!mr_json_open(&r->js, '{'))
		return false;
	while ((more = mr_json_key(&r->js, &n, key, sizeof(key))) > 0)
	{
		const char *content;
		size_t		len;
		bool		escaped;
		long		bytes;

		if (strcmp(key, "precompiled_charsmap") != 0 || mr_json_null(&r->js))
		{
			if (mr_json_peek(&r->js) != ',' && mr_json_peek(&r->js) != '}' && !mr_json_skip(&r->js))
				return false;
			continue;
		}
		if (!mr_json_string(&r->js, &content, &len, &escaped))
			return false;
		r->s.charsmap = txt_keep(&r->s, len + 3);
		if (r->s.charsmap == NULL)
			return false;
		bytes = escaped ? -1 : mr_base64_decode(content, len, (unsigned char *) r->s.charsmap);
		if (bytes < 0)
			return mr_json_syntax(&r->js, "base64");
		r->s.charsmap_len = (size_t) bytes;
	}
	return more == 0 && (r->s.charsmap == NULL || add_step(r, false, TXT_CHARSMAP, 0) != NULL);
}

static bool
strip_normalizer(txt_reader *r)
{
	bool		left = true,
				right = true;
	const txt_member m[] = {{"strip_left", IS_BOOL, &left}, {"strip_right", IS_BOOL, &right}};

	return txt_read_members(&r->js, m, 2) && add_step(r, false, TXT_STRIP, (left ? TXT_LEFT : 0) | (right ? TXT_RIGHT : 0));
}

static bool
prepend_normalizer(txt_reader *r)
{
	char		text[256] = "";
	const txt_member m[] = {{"prepend", IS_TEXT, text}};
	txt_step   *s;

	return txt_read_members(&r->js, m, 1) && (s = add_step(r, false, TXT_PREPEND, 0)) && set_text(r, s->a, &s->a_len, text);
}

/* ---- splitters ---- */

static bool
bytes_splitter(txt_reader *r)
{
	bool		space = true,
				pattern = true;
	const txt_member m[] = {{"add_prefix_space", IS_BOOL, &space}, {"use_regex", IS_BOOL, &pattern}};

	r->s.byte_level = true;
	return txt_read_members(&r->js, m, 2) &&
		add_step(r, true, TXT_SPLIT_BYTES, (space ? TXT_SPACE_BEFORE : 0) | (pattern ? TXT_PATTERN : 0));
}

static bool
metaspace_splitter(txt_reader *r)
{
	char		mark[256] = "\xe2\x96\x81",
				scheme[256] = "";
	bool		before = true,
				split = true;
	const txt_member m[] = {{"replacement", IS_TEXT, mark}, {"prepend_scheme", IS_TEXT, scheme}, {"add_prefix_space", IS_BOOL, &before},
	{"split", IS_BOOL, &split}};
	txt_step   *s;

	if (!txt_read_members(&r->js, m, 4))
		return false;
	if (scheme[0])
		before = strcmp(scheme, "never") != 0;
	s = add_step(r, true, TXT_METASPACE, (before ? TXT_SPACE_BEFORE : 0) | (strcmp(scheme, "first") == 0 ? TXT_FIRST_ONLY : 0) |
				 (split ? TXT_SPLIT : 0));
	return s && set_text(r, s->a, &s->a_len, mark) && (s->a_len > 0 || txt_unsupported(r, "replacement", ""));
}

static bool
punctuation_splitter(txt_reader *r)
{
	char		behavior[256] = "Isolated";
	const txt_member m[] = {{"behavior", IS_TEXT, behavior}};

	return txt_read_members(&r->js, m, 1) && (strcmp(behavior, "Isolated") == 0 || txt_unsupported(r, "behavior", behavior)) &&
		add_step(r, true, TXT_SPLIT_PUNCTUATION, 0);
}

static bool
digits_splitter(txt_reader *r)
{
	bool		each = false;
	const txt_member m[] = {{"individual_digits", IS_BOOL, &each}};

	return txt_read_members(&r->js, m, 1) && (each || txt_unsupported(r, "pre-tokenizer", "Digits, not individual")) &&
		add_step(r, true, TXT_SPLIT_DIGITS, 0);
}

/* ---- their tables ---- */

typedef struct step_kind
{
	const char *name;
	bool		split;
	bool		(*read) (txt_reader *r);	/* NULL: op and flag say it all */
	txt_op		op;
	int			flag;
} step_kind;

static const step_kind kinds[] = {
	{"BertNormalizer", false, bert_normalizer, 0, 0},
	{"NFC", false, NULL, TXT_NORMAL_FORM, TXT_COMPOSE},
	{"NFD", false, NULL, TXT_NORMAL_FORM, 0},
	{"NFKC", false, NULL, TXT_NORMAL_FORM, TXT_COMPOSE | TXT_COMPATIBLE},
	{"NFKD", false, NULL, TXT_NORMAL_FORM, TXT_COMPATIBLE},
	{"Lowercase", false, NULL, TXT_LOWERCASE, 0},
	{"StripAccents", false, NULL, TXT_NO_ACCENTS, 0},
	{"Strip", false, strip_normalizer, 0, 0},
	{"Replace", false, replace_normalizer, 0, 0},
	{"Prepend", false, prepend_normalizer, 0, 0},
	{"Precompiled", false, charsmap_normalizer, 0, 0},
	{"BertPreTokenizer", true, NULL, TXT_SPLIT_BERT, 0},
	{"WhitespaceSplit", true, NULL, TXT_SPLIT_SPACE, 0},
	{"Whitespace", true, NULL, TXT_SPLIT_WORDS, 0},
	{"Punctuation", true, punctuation_splitter, 0, 0},
	{"Digits", true, digits_splitter, 0, 0},
	{"ByteLevel", true, bytes_splitter, 0, 0},
	{"Metaspace", true, metaspace_splitter, 0, 0},
};

/* A step, null, or a sequence of steps. */
bool
txt_read_steps(txt_reader *r, bool split, int depth)
{
	const char *list = split ? "pretokenizers" : "normalizers";
	char		type[256];

	if (mr_json_null(&r->js))
		return true;
	if (!txt_peek_type(r, type))
		return false;
	for (int i = 0; i < (int) (sizeof(kinds) / sizeof(kinds[0])); i++)
		if (kinds[i].split == split && strcmp(kinds[i].name, type) == 0)
			return kinds[i].read ? kinds[i].read(r) : mr_json_skip(&r->js) && add_step(r, split, kinds[i].op, kinds[i].flag);
	if (strcmp(type, "Sequence") == 0 && depth < 4)
	{
		int			n = 0,
					more;
		char		key[NAME];

		if (!mr_json_open(&r->js, '{'))
			return false;
		while ((more = mr_json_key(&r->js, &n, key, sizeof(key))) > 0)
		{
			int			inner = 0,
						item;

			if (strcmp(key, list) != 0)
			{
				if (!mr_json_skip(&r->js))
					return false;
				continue;
			}
			if (!mr_json_open(&r->js, '['))
				return false;
			while ((item = mr_json_next(&r->js, '[', &inner)) > 0)
				if (!txt_read_steps(r, split, depth + 1))
					return false;
			if (item < 0)
				return false;
		}
		return more == 0;
	}
	return txt_unsupported(r, split ? "pre-tokenizer" : "normalizer", type);
}
