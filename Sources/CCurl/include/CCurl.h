// libcurl, opened when something first needs it, and the typed forms of its variadic functions, which Swift cannot call.
#pragma once
#include <curl/curl.h>

/// Opens and initializes libcurl, once for the process; it stays open.  The functions below may be called after a success only.
///
/// Returns NULL, or the reason why it cannot be used, which stays valid.
const char *ccurl_open(void);

/// The functions that are used of libcurl, without the `curl_` of their names.
#define CCURL_FUNCTIONS(each) \
    each(easy_cleanup) each(easy_getinfo) each(easy_init) each(easy_perform) each(easy_setopt) each(easy_strerror) each(free) \
    each(getdate) each(global_init) each(multi_add_handle) each(multi_cleanup) each(multi_info_read) each(multi_init) \
    each(multi_remove_handle) each(multi_setopt) each(multi_socket_action) each(slist_append) each(slist_free_all) \
    each(url) each(url_cleanup) each(url_get) each(url_set) each(url_strerror)

/// Their addresses, which are NULL before libcurl is open.
#define CCURL_MEMBER(name) __typeof__(&curl_##name) name;
struct ccurl_functions { CCURL_FUNCTIONS(CCURL_MEMBER) };
extern struct ccurl_functions ccurl_functions;
#undef CCURL_MEMBER
#define CCURL(name) ccurl_functions.name

static inline CURL *ccurl_easy_init(void) { return CCURL(easy_init)(); }
static inline void ccurl_easy_cleanup(CURL *handle) { CCURL(easy_cleanup)(handle); }
static inline CURLcode ccurl_easy_perform(CURL *handle) { return CCURL(easy_perform)(handle); }
static inline const char *ccurl_easy_strerror(CURLcode code) { return CCURL(easy_strerror)(code); }
static inline void ccurl_free(void *memory) { CCURL(free)(memory); }
static inline time_t ccurl_getdate(const char *text) { return CCURL(getdate)(text, NULL); }
static inline struct curl_slist *ccurl_slist_append(struct curl_slist *list, const char *text) { return CCURL(slist_append)(list, text); }
static inline void ccurl_slist_free_all(struct curl_slist *list) { CCURL(slist_free_all)(list); }

static inline CURLcode ccurl_set_long(CURL *handle, CURLoption option, long value) { return CCURL(easy_setopt)(handle, option, value); }
static inline CURLcode ccurl_set_offset(CURL *handle, CURLoption option, curl_off_t value) { return CCURL(easy_setopt)(handle, option, value); }
static inline CURLcode ccurl_set_text(CURL *handle, CURLoption option, const char *value) { return CCURL(easy_setopt)(handle, option, value); }
static inline CURLcode ccurl_set_pointer(CURL *handle, CURLoption option, const void *value) { return CCURL(easy_setopt)(handle, option, value); }
static inline CURLcode ccurl_set_list(CURL *handle, CURLoption option, struct curl_slist *value) { return CCURL(easy_setopt)(handle, option, value); }
static inline CURLcode ccurl_set_write(CURL *handle, curl_write_callback value) { return CCURL(easy_setopt)(handle, CURLOPT_WRITEFUNCTION, value); }
static inline CURLcode ccurl_set_header(CURL *handle, curl_write_callback value) { return CCURL(easy_setopt)(handle, CURLOPT_HEADERFUNCTION, value); }
static inline CURLcode ccurl_set_progress(CURL *handle, curl_xferinfo_callback value) { return CCURL(easy_setopt)(handle, CURLOPT_XFERINFOFUNCTION, value); }
static inline CURLcode ccurl_set_open(CURL *handle, curl_opensocket_callback value) { return CCURL(easy_setopt)(handle, CURLOPT_OPENSOCKETFUNCTION, value); }
static inline CURLcode ccurl_set_close(CURL *handle, curl_closesocket_callback value) { return CCURL(easy_setopt)(handle, CURLOPT_CLOSESOCKETFUNCTION, value); }

static inline CURLcode ccurl_get_long(CURL *handle, CURLINFO info, long *value) { return CCURL(easy_getinfo)(handle, info, value); }
static inline CURLcode ccurl_get_offset(CURL *handle, CURLINFO info, curl_off_t *value) { return CCURL(easy_getinfo)(handle, info, value); }
static inline CURLcode ccurl_get_pointer(CURL *handle, CURLINFO info, void **value) { return CCURL(easy_getinfo)(handle, info, value); }

static inline CURLM *ccurl_multi_init(void) { return CCURL(multi_init)(); }
static inline CURLMcode ccurl_multi_cleanup(CURLM *multi) { return CCURL(multi_cleanup)(multi); }
static inline CURLMcode ccurl_multi_add_handle(CURLM *multi, CURL *handle) { return CCURL(multi_add_handle)(multi, handle); }
static inline CURLMcode ccurl_multi_remove_handle(CURLM *multi, CURL *handle) { return CCURL(multi_remove_handle)(multi, handle); }
static inline CURLMcode ccurl_multi_socket_action(CURLM *multi, curl_socket_t socket, int events, int *running) { return CCURL(multi_socket_action)(multi, socket, events, running); }
static inline CURLMsg *ccurl_multi_info_read(CURLM *multi, int *left) { return CCURL(multi_info_read)(multi, left); }
static inline CURLcode ccurl_message_result(const CURLMsg *message) { return message->data.result; }
static inline CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value) { return CCURL(multi_setopt)(multi, option, value); }
static inline CURLMcode ccurl_multi_set_pointer(CURLM *multi, CURLMoption option, void *value) { return CCURL(multi_setopt)(multi, option, value); }
static inline CURLMcode ccurl_multi_set_socket(CURLM *multi, curl_socket_callback value) { return CCURL(multi_setopt)(multi, CURLMOPT_SOCKETFUNCTION, value); }
static inline CURLMcode ccurl_multi_set_timer(CURLM *multi, curl_multi_timer_callback value) { return CCURL(multi_setopt)(multi, CURLMOPT_TIMERFUNCTION, value); }

static inline CURLU *ccurl_url(void) { return CCURL(url)(); }
static inline void ccurl_url_cleanup(CURLU *url) { CCURL(url_cleanup)(url); }
static inline CURLUcode ccurl_url_get(CURLU *url, CURLUPart part, char **text, unsigned int flags) { return CCURL(url_get)(url, part, text, flags); }
static inline CURLUcode ccurl_url_set(CURLU *url, CURLUPart part, const char *text, unsigned int flags) { return CCURL(url_set)(url, part, text, flags); }
static inline const char *ccurl_url_strerror(CURLUcode code) { return CCURL(url_strerror)(code); }
