/** Damaged models that every build must survive. */
export const CUTS = 50
export const FLIPS = 500
export { nanoRequest } from './real.js'
