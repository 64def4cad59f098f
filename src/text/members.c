/*
 * members.c
 *	  Reading the members one wants of a JSON object.  See members.h.
 */
#include "text/members.h"

#define NAME 64					/* bytes of a name that is compared */

bool
txt_read_members(mr_json *js, const txt_member *m, int n)
{
	int			count = 0,
				more;
	char		key[NAME];

	if (!mr_json_open(js, '{'))
		return false;
	while ((more = mr_json_key(js, &count, key, sizeof(key))) > 0)
	{
		int			i = 0;
		bool		good;

		while (i < n && strcmp(m[i].name, key) != 0)
			i++;
		if (i == n)
			good = mr_json_skip(js);
		else if (mr_json_null(js))
			good = true;
		else if (m[i].kind == IS_BOOL)
			good = mr_json_bool(js, m[i].to);
		else if (m[i].kind == IS_TEXT)
			good = mr_json_text(js, m[i].to, TXT_TEXT_SIZE);
		else if (m[i].kind == IS_NUMBER)
			good = mr_json_number(js, m[i].to);
		else
			good = *(bool *) m[i].to = mr_json_skip(js);
		if (!good)
			return false;
	}
	return more == 0;
}
