"""Keys of answers, the rehearsal, flags of texts. Imports core, config, algorithms."""
