# Crosses written by R/qtl itself (write.cross) and, after the R/qtl2 input file format, by the code below, and what R
# holds of them: copies of the second allele, traits and maps, as plain tables.
#   Rscript rqtl_crosses.R DIRECTORY
suppressMessages({library(qtl); library(jsonlite)})
setwd(commandArgs(trailingOnly = TRUE)[1])
set.seed(20240601)
data(hyper); data(listeria); data(fake.f2)
map <- sim.map(rep(60, 3), n.mar = 6, include.x = FALSE)
simulated <- function(type) {
  cross <- sim.cross(map, n.ind = 40, type = type, missing.prob = 0.1)
  cross$pheno$id <- paste0("line ", 40:1)
  cross
}
crosses <- list(hyper = hyper, listeria = listeria, fake.f2 = fake.f2, riself = simulated("riself"),
                dh = simulated("riself"), bc = simulated("bc"))
class(crosses$dh)[1] <- "dh"

plain <- function(x, file, ...) write.table(x, file, sep = ",", quote = FALSE, row.names = FALSE, ...)

# Copies of the second allele, by R's own numbers of the genotypes.
copies <- function(cross) {
  type <- class(cross)[1]
  parts <- lapply(names(cross$geno), function(chr) {
    g <- pull.geno(cross, chr = chr)
    if (type != "f2") return(g - 1)
    if (inherits(cross$geno[[chr]], "X")) {
      full <- qtl:::reviseXdata("f2", "full", getsex(cross), geno = g, cross.attr = attributes(cross))
      g[] <- c(0, 1, 1, 2, 0, 2)[full]  # AA AB BA BB AY BY
      return(g)
    }
    g[] <- c(0, 1, 2, NA, NA)[g]  # AA AB BB, not BB, not AA
    g
  })
  do.call(cbind, parts)
}

for (name in names(crosses)) {
  cross <- crosses[[name]]
  type <- class(cross)[1]
  write.cross(cross, "csv", name)
  write.cross(cross, "csvr", paste0(name, "_rotated"))
  genotypes <- copies(cross)
  traits <- cross$pheno[, !(names(cross$pheno) %in% c("id", "sex", "pgm")), drop = FALSE]
  places <- data.frame(marker = markernames(cross), chr = rep(names(nmar(cross)), nmar(cross)),
                       pos = unlist(pull.map(cross), use.names = FALSE))
  plain(genotypes, paste0(name, "_copies.txt"))
  plain(traits, paste0(name, "_traits.txt"))
  plain(places, paste0(name, "_map.txt"))

  # The same cross in the format of R/qtl2. Partly known genotypes keep their codes D and C.
  dir.create(name)
  number <- do.call(cbind, lapply(names(cross$geno), function(chr) pull.geno(cross, chr = chr)))
  letters <- matrix(c("A", "H", "B")[genotypes + 1], nrow(genotypes))
  if (type == "f2") letters[!is.na(number) & number == 4] <- "D"
  if (type == "f2") letters[!is.na(number) & number == 5] <- "C"
  if (type %in% c("riself", "dh")) letters[!is.na(genotypes) & genotypes == 1] <- "B"
  letters[is.na(letters)] <- "-"
  ids <- paste0("m", seq_len(nrow(letters)))
  table <- data.frame(id = ids, letters)
  names(table) <- c("id", places$marker)
  codes <- list(A = 1L, H = 2L, B = 3L, D = 4L, C = 5L)
  if (type %in% c("riself", "dh")) codes <- list(A = 1L, B = 2L)
  control <- list(crosstype = type, geno = "geno.csv", pheno = "pheno.csv", gmap = "gmap.csv", pmap = "pmap.csv",
                  covar = "covar.csv", genotypes = codes, alleles = c("A", "B"), na.strings = c("-", "NA"))
  if (name == "riself") {  # a file for each chromosome
    control$geno <- paste0("geno", 1:3, ".csv")
    for (chr in 1:3) plain(table[, c(TRUE, places$chr == chr)], file.path(name, control$geno[chr]))
  } else if (name == "fake.f2") {
    control$geno_transposed <- control$pheno_transposed <- TRUE
    plain(data.frame(marker = places$marker, t(letters)), file.path(name, "geno.csv"),
          col.names = c("marker", ids))
  } else plain(table, file.path(name, "geno.csv"))
  shuffled <- sample(nrow(traits))
  pheno <- data.frame(id = ids, traits)[shuffled, ]
  if (name == "fake.f2") {
    plain(data.frame(names(traits), t(pheno[, -1, drop = FALSE])), file.path(name, "pheno.csv"),
          col.names = c("pheno", pheno$id))
  } else plain(pheno, file.path(name, "pheno.csv"))
  plain(places, file.path(name, "gmap.csv"))
  plain(transform(places, pos = sprintf("%.6f", 2 * pos + 1)), file.path(name, "pmap.csv"))
  sex <- if (is.null(cross$pheno$sex)) rep("f", nrow(table)) else ifelse(cross$pheno$sex %in% c("male", "1"), "m", "f")
  plain(data.frame(id = ids, sex = sex), file.path(name, "covar.csv"))
  if ("X" %in% places$chr) {
    control$x_chr <- "X"
    control$sex <- list(covar = "sex", f = "female", m = "male")
  }
  cat(toJSON(control, auto_unbox = TRUE, pretty = TRUE), "\n", file = file.path(name, "control.json"))
}
