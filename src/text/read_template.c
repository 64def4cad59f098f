/*
 * read_template.c
 *	  The post-processor of a tokenizer.json: tokens before and after a text.
 */
#include "text/read_json.h"

static bool
add_item(txt_reader *r, bool after, const char *name, int32_t id)
{
	int		   *n = after ? &r->n_after : &r->n_before;
	int			at = (after ? TXT_MAX_TEMPLATE : 0) + *n;

	if (*n == TXT_MAX_TEMPLATE)
	{
		mr_fail(r->js.st, MR_LIMIT, "the template has more than %d tokens", TXT_MAX_TEMPLATE);
		return false;
	}
	strcpy(r->item[at], name);
	r->item_id[at] = id;
	(*n)++;
	return true;
}

/* [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, …] */
static bool
read_single(txt_reader *r)
{
	int			n = 0,
				more;
	bool		after = false;

	if (!mr_json_open(&r->js, '['))
		return false;
	while ((more = mr_json_next(&r->js, '[', &n)) > 0)
	{
		char		kind[NAME],
					name[256] = "";
		const txt_member m[] = {{"id", IS_TEXT, name}};
		int			inner = 0;

		if (!mr_json_open(&r->js, '{') || mr_json_key(&r->js, &inner, kind, sizeof(kind)) <= 0 || !txt_read_members(&r->js, m, 1) ||
			mr_json_next(&r->js, '{', &inner) != 0)
			return r->js.st->code ? false : mr_json_syntax(&r->js, "a piece of the template");
		if (strcmp(kind, "Sequence") == 0)
			after = true;
		else if (!add_item(r, after, name, -1))
			return false;
	}
	return more == 0;
}

/* {"[CLS]": {"ids": [101]}, …} */
static bool
read_special(txt_reader *r)
{
	int			n = 0,
				more;
	char		name[256];

	if (!mr_json_open(&r->js, '{'))
		return false;
	while ((more = mr_json_key(&r->js, &n, name, sizeof(name))) > 0)
	{
		int			members = 0,
					inner = 0;
		char		key[NAME];
		int32_t		id = -1;

		if (!mr_json_open(&r->js, '{'))
			return false;
		while (mr_json_key(&r->js, &members, key, sizeof(key)) > 0)
			if (strcmp(key, "ids") != 0)
			{
				if (!mr_json_skip(&r->js))
					return false;
			}
			else if (!mr_json_open(&r->js, '[') || mr_json_next(&r->js, '[', &inner) <= 0 || !txt_read_id(r, &id) ||
					 mr_json_next(&r->js, '[', &inner) != 0)
				return r->js.st->code ? false : txt_unsupported(r, "special token", name);
		for (int i = 0; i < 2 * TXT_MAX_TEMPLATE; i++)
			if (strcmp(r->item[i], name) == 0)
				r->item_id[i] = id;
	}
	return more == 0;
}

/* ["</s>", 2] */
static bool
read_pair(txt_reader *r, bool after)
{
	char		name[256];
	int32_t		id;
	int			n = 0;

	if (!mr_json_open(&r->js, '[') || mr_json_next(&r->js, '[', &n) <= 0 || !mr_json_text(&r->js, name, sizeof(name)) ||
		mr_json_next(&r->js, '[', &n) <= 0 || !txt_read_id(r, &id) || mr_json_next(&r->js, '[', &n) != 0)
		return r->js.st->code ? false : mr_json_syntax(&r->js, "a token and its number");
	return add_item(r, after, name, id);
}

bool
txt_read_template(txt_reader *r, int depth)
{
	char		type[256],
				key[NAME];
	int			n = 0,
				more;

	if (mr_json_null(&r->js))
		return true;
	if (!txt_peek_type(r, type))
		return false;
	if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "RobertaProcessing") == 0)
	{
		const char *p = r->js.p;
		bool		trim = true;
		const txt_member m[] = {{"trim_offsets", IS_BOOL, &trim}};

		if (!txt_read_members(&r->js, m, 1))
			return false;
		r->s.head.trim = trim;
		if (type[0] == 'B')
			return true;
		r->js.p = p;
	}
	if (strcmp(type, "TemplateProcessing") != 0 && strcmp(type, "BertProcessing") != 0 && strcmp(type, "RobertaProcessing") != 0 &&
		!(strcmp(type, "Sequence") == 0 && depth < 4))
		return txt_unsupported(r, "post-processor", type);
	if (!mr_json_open(&r->js, '{'))
		return false;
	while ((more = mr_json_key(&r->js, &n, key, sizeof(key))) > 0)
	{
		bool		good = true;
		int			inner = 0,
					item = 1;

		if (strcmp(key, "single") == 0)
			good = read_single(r);
		else if (strcmp(key, "special_tokens") == 0)
			good = read_special(r);
		else if (strcmp(key, "cls") == 0 || strcmp(key, "sep") == 0)
			good = read_pair(r, key[0] == 's');
		else if (strcmp(key, "processors") == 0)
		{
			good = mr_json_open(&r->js, '[');
			while (good && (item = mr_json_next(&r->js, '[', &inner)) > 0)
				good = txt_read_template(r, depth + 1);
			good = good && item == 0;
		}
		else
			good = mr_json_skip(&r->js);
		if (!good)
			return false;
	}
	return more == 0;
}
