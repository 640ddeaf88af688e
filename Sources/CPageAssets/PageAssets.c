// The bytes of web/, taken in by the compiler: a file that changes makes this one be compiled again.
#include "CPageAssets.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

typedef const unsigned char bytes[];

static bytes page_css = {
#embed "web/page.css"
};
static bytes page_js = {
#embed "web/page.js"
};
static bytes flame_css = {
#embed "web/flame.css"
};
static bytes flame_js = {
#embed "web/flame.js"
};
static bytes icon_svg = {
#embed "web/icon.svg"
};

#define ASSET(name, type, bytes) {name, type, bytes, sizeof bytes}

static const page_asset assets[] = {
    ASSET("page.css", "text/css; charset=utf-8", page_css),
    ASSET("page.js", "text/javascript; charset=utf-8", page_js),
    ASSET("flame.css", "text/css; charset=utf-8", flame_css),
    ASSET("flame.js", "text/javascript; charset=utf-8", flame_js),
    ASSET("icon.svg", "image/svg+xml", icon_svg),
};

const page_asset *page_asset_at(size_t number) {
    return number < sizeof assets / sizeof *assets ? &assets[number] : NULL;
}
