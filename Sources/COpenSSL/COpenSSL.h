// OpenSSL: libcrypto, libssl, and the macros of theirs that Swift does not see.
#pragma once
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

/// HTTP/1.1 or 1.0 by ALPN; a client that lists other protocols only is told so (RFC 7301 section 3.2).
static inline int copenssl_choose_protocol(SSL *session, const unsigned char **chosen, unsigned char *length,
                                           const unsigned char *offered, unsigned int count, void *context) {
    static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";
    (void)session, (void)context;
    return SSL_select_next_proto((unsigned char **)chosen, length, ours, sizeof ours - 1, offered, count) == OPENSSL_NPN_NEGOTIATED
        ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// What each server context has: no renegotiation, no cache that clients could fill, no buffers while idle, and writes that
/// may be continued from another address.
static inline void copenssl_set_defaults(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, copenssl_choose_protocol, NULL);
    // An authority below a root is one too, as in Go.
    X509_STORE_set_flags(SSL_CTX_get_cert_store(context), X509_V_FLAG_PARTIAL_CHAIN);
}

// OpenSSL reads on and on while records come that hold no data (key updates, refused renegotiations), so that one client
// could keep a thread for itself.  The socket therefore pretends to be empty after so many reads; the poller knows better.
static inline long copenssl_count_read(BIO *socket, int operation, const char *bytes, size_t size, int argi, long argl, int result,
                                       size_t *done) {
    (void)bytes, (void)size, (void)argi, (void)argl, (void)done;
    if (operation != BIO_CB_READ) return result;
    intptr_t left = (intptr_t)BIO_get_callback_arg(socket);
    BIO_set_callback_arg(socket, (char *)(left - 1));
    if (left > 0) return result;
    BIO_set_retry_read(socket);
    return -1;
}
static inline void copenssl_bound_reads(SSL *session) { BIO_set_callback_ex(SSL_get_rbio(session), copenssl_count_read); }
static inline void copenssl_allow_reads(SSL *session, intptr_t count) { BIO_set_callback_arg(SSL_get_rbio(session), (char *)count); }

/// Every connection is a full handshake.
static inline void copenssl_disable_resumption(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
}

static inline int copenssl_set_minimum(SSL_CTX *context, int version) { return SSL_CTX_set_min_proto_version(context, version); }
static inline long copenssl_add_chain(SSL_CTX *context, X509 *certificate) { return SSL_CTX_add1_chain_cert(context, certificate); }
static inline int copenssl_reason(unsigned long error) { return ERR_GET_REASON(error); }
