// No code: whatever depends on this module is linked with the settings that Package.swift gives it.
