/*
 * auth.c
 *	  Credentials in a request's head, and lists.  See form.h.
 */
#include "gateway/form.h"

#include <string.h>
#include <strings.h>

#include "core/base64.h"
#include "core/utf8.h"

/* Letters of tokens (RFC 6750), so that nothing else is looked up. */
static bool
take_token(const char *p, size_t len, char *out)
{
	if (len == 0 || len > GW_MAX_TOKEN)
		return false;
	for (size_t i = 0; i < len; i++)
		if (p[i] <= ' ' || p[i] >= 0x7f)
			return false;
	memcpy(out, p, len);
	out[len] = '\0';
	return true;
}

gw_auth
gw_auth_read(const char *header, char token[GW_MAX_TOKEN + 1], char user[GW_MAX_TOKEN + 1])
{
	char		pair[2 * GW_MAX_TOKEN + 8];
	char	   *colon;
	const char *p;
	size_t		len;
	long		n;
	gw_auth		result = GW_AUTH_BAD;

	token[0] = user[0] = '\0';
	if (header == NULL)
		return GW_AUTH_NONE;
	len = strcspn(header, " ");
	p = header + len + strspn(header + len, " ");
	if (len == 6 && strncasecmp(header, "Bearer", 6) == 0)
		return take_token(p, strcspn(p, " "), token) ? GW_AUTH_TOKEN : GW_AUTH_BAD;
	if (len != 5 || strncasecmp(header, "Basic", 5) != 0)
		return GW_AUTH_BAD;
	len = strcspn(p, " ");
	if (len / 4 * 3 + 3 >= sizeof(pair))
		return GW_AUTH_BAD;
	n = mr_base64_decode(p, len, (unsigned char *) pair);
	if (n > 0 && mr_utf8(pair, (size_t) n))
	{
		pair[n] = '\0';
		colon = strchr(pair, ':');
		if (colon && colon - pair <= GW_MAX_TOKEN && take_token(colon + 1, strlen(colon + 1), token))
		{
			memcpy(user, pair, (size_t) (colon - pair));
			user[colon - pair] = '\0';
			result = GW_AUTH_TOKEN;
		}
	}
	explicit_bzero(pair, sizeof(pair));
	return result;
}

bool
gw_listed(const char *header, const char *word)
{
	size_t		n = strlen(word);

	while (*header)
	{
		size_t		len;

		header += strspn(header, ", \t");
		len = strcspn(header, ",");
		while (len > 0 && (header[len - 1] == ' ' || header[len - 1] == '\t'))
			len--;
		if (len == n && memcmp(header, word, n) == 0)
			return true;
		header += strcspn(header, ",");
	}
	return false;
}
