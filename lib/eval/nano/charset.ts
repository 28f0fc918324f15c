/** Every character the font can draw; the index plus one is its class in the dense labels. */
export const CHARSET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-.'
