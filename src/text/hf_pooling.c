/*
 * hf_pooling.c
 *	  How sentence-transformers makes one vector of a text's: modules.json,
 *	  Pooling's config.json, sentence_bert_config.json.
 *
 * A folder without modules.json is a plain transformer: mean of the tokens'
 * vectors, of any length, as sentence-transformers does with it.
 */
#include "text/hf_int.h"

#include <math.h>
#include <stdio.h>

static const struct
{
	const char *mode,			/* since 5.0: "pooling_mode": mode */
			   *key;			/* before: key: true */
	int			pooling;		/* -1: not supported */
}			modes[] = {
	{"mean", "pooling_mode_mean_tokens", txt_pool_mean},
	{"cls", "pooling_mode_cls_token", txt_pool_cls},
	{"max", "pooling_mode_max_tokens", txt_pool_max},
	{"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", txt_pool_mean_sqrt},
	{"weightedmean", "pooling_mode_weightedmean_tokens", -1},
	{"lasttoken", "pooling_mode_lasttoken", -1},
};

#define N_MODES (int) (sizeof(modes) / sizeof(modes[0]))

static bool
unsupported(const txt_folder *f, const txt_file *file, const char *what, const char *name)
{
	mr_fail(f->st, MR_UNSUPPORTED, "%s \"%.80s\" is not supported", what, name);
	return txt_in_file(f, file);
}

/* ---- Pooling ---- */

/* A mode, which must be the only one. */
static bool
set_mode(txt_folder *f, int i, int *found)
{
	if (*found >= 0)
	{
		mr_fail(f->st, MR_UNSUPPORTED, "more than one mode of pooling is not supported");
		return false;
	}
	if (modes[i].pooling < 0)
	{
		mr_fail(f->st, MR_UNSUPPORTED, "pooling \"%s\" is not supported", modes[i].mode);
		return false;
	}
	*found = i;
	return true;
}

static bool
read_mode(txt_folder *f, mr_json *js, int *found)
{
	char		name[TXT_TEXT_SIZE];

	if (!mr_json_text(js, name, sizeof(name)))
		return false;
	for (int i = 0; i < N_MODES; i++)
		if (strcmp(name, modes[i].mode) == 0)
			return set_mode(f, i, found);
	mr_fail(f->st, MR_UNSUPPORTED, "pooling \"%.80s\" is not supported", name);
	return false;
}

/* "mean", or ["mean"] */
static bool
read_modes(txt_folder *f, mr_json *js, int *found)
{
	int			n = 0,
				more;

	if (mr_json_peek(js) != '[')
		return read_mode(f, js, found);
	js->p++;
	while ((more = mr_json_next(js, '[', &n)) > 0)
		if (!read_mode(f, js, found))
			return false;
	return more == 0;
}

static bool
read_pooling_members(txt_folder *f, mr_json *js)
{
	char		key[TXT_TEXT_SIZE];
	int			n = 0,
				more,
				named = -1,
				flagged = -1;

	if (!mr_json_open(js, '{'))
		return false;
	while ((more = mr_json_key(js, &n, key, sizeof(key))) > 0)
	{
		int			i = 0;
		bool		on;

		while (i < N_MODES && strcmp(key, modes[i].key) != 0)
			i++;
		if (i < N_MODES)
		{
			if (!mr_json_bool(js, &on) || (on && !set_mode(f, i, &flagged)))
				return false;
		}
		else if (!(strcmp(key, "pooling_mode") == 0 ? read_modes(f, js, &named) : mr_json_skip(js)))
			return false;
	}
	if (named < 0)
		named = flagged < 0 ? 0 : flagged;
	f->hf->info.pooling = modes[named].pooling;
	return more == 0 && txt_json_end(js);
}

static bool
read_pooling(txt_folder *f, const txt_file *list, const char *path)
{
	char		name[TXT_TEXT_SIZE + 16];
	const txt_file *file;
	mr_json		js;

	snprintf(name, sizeof(name), "%s%sconfig.json", path, path[0] ? "/" : "");
	file = txt_bundle_find(f->bundle, name);
	if (file == NULL)
	{
		mr_fail(f->st, MR_INVALID, "the model's folder has no file \"%.80s\"", name);
		return txt_in_file(f, list);
	}
	return txt_json_begin(f, file, file->data, file->len, TXT_MAX_JSON, &js) &&
		(read_pooling_members(f, &js) || txt_in_file(f, file));
}

/* ---- modules.json ---- */

static bool
read_modules(txt_folder *f, const txt_file *file)
{
	static const char *const order[] = {"Transformer", "Pooling", "Normalize"};
	mr_json		js;
	int			n = 0,
				more;

	if (!txt_json_begin(f, file, file->data, file->len, TXT_MAX_JSON, &js))
		return false;
	if (!mr_json_open(&js, '['))
		return txt_in_file(f, file);
	while ((more = mr_json_next(&js, '[', &n)) > 0)
	{
		char		type[TXT_TEXT_SIZE] = "",
					path[TXT_TEXT_SIZE] = "";
		const txt_member m[] = {{"type", IS_TEXT, type}, {"path", IS_TEXT, path}};
		const char *name;

		if (!txt_read_members(&js, m, 2))
			return txt_in_file(f, file);
		/* sentence_transformers.models.Pooling, or wherever a version has it */
		name = strrchr(type, '.');
		name = name ? name + 1 : type;
		if (n > 3 || strcmp(name, order[n - 1]) != 0)
			return unsupported(f, file, "module", type);
		if (n == 1 && path[0])
			snprintf(f->dir, sizeof(f->dir), "%.*s/", (int) sizeof(f->dir) - 2, path);
		if (n == 2 && !read_pooling(f, file, path))
			return false;
		f->hf->info.normalize = n == 3;
	}
	if (more < 0 || !txt_json_end(&js))
		return txt_in_file(f, file);
	if (n < 2)
	{
		mr_fail(f->st, MR_UNSUPPORTED, "a model without a module Pooling is not supported");
		return txt_in_file(f, file);
	}
	return true;
}

/* ---- what else changes an embedding ---- */

static bool
read_sentence_config(txt_folder *f)
{
	static const char *const names[] = {
		"sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
		"sentence_camembert_config.json", "sentence_xlm-roberta_config.json",
	};
	const txt_member m[] = {{"max_seq_length", IS_NUMBER, &f->max_seq_length}, {"do_lower_case", IS_BOOL, &f->hf->lowercase}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		const txt_file *file = txt_folder_find(f, names[i]);
		int32_t		length;

		if (file)
			return txt_read_json(f, file, m, 2) &&
				(isnan(f->max_seq_length) || txt_whole(f, file, "max_seq_length", f->max_seq_length, 1, INT32_MAX, &length));
	}
	return true;
}

static bool
read_settings(txt_folder *f)
{
	char		type[TXT_TEXT_SIZE] = "SentenceTransformer",
				prompt[TXT_TEXT_SIZE] = "";
	const txt_member m[] = {{"model_type", IS_TEXT, type}, {"default_prompt_name", IS_TEXT, prompt}};
	const txt_file *file = txt_bundle_find(f->bundle, "config_sentence_transformers.json");

	if (file == NULL)
		return true;
	if (!txt_read_json(f, file, m, 2))
		return false;
	if (strcmp(type, "SentenceTransformer") != 0)
		return unsupported(f, file, "\"model_type\"", type);
	if (prompt[0])
		return unsupported(f, file, "\"default_prompt_name\"", prompt);
	return true;
}

bool
txt_read_pooling(txt_folder *f)
{
	const txt_file *modules = txt_bundle_find(f->bundle, "modules.json");

	f->hf->info.pooling = txt_pool_mean;
	f->max_seq_length = NAN;
	return modules == NULL || (read_modules(f, modules) && read_sentence_config(f) && read_settings(f));
}
