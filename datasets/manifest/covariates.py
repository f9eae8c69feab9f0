"""Columns that describe a case, or how it was acquired, by their names: no labels unless somebody says so."""

import re

# Columns that describe a case and are never a label, even though their cells are numbers.
FACTS = frozenset(
    (
        "age sex view follow_up height width spacing mpp mpp_override fps frames annotation study series site scanner "
        "source group probe original_split duplicate_of instance accession chosen mask report"
    ).split()
)
# Plain names of columns that describe a case or how it was acquired, whose cells often read like a label's.
COVARIATES = frozenset(
    (
        "gender,geschlecht,geschl,sexe,alter,patient sex,patient gender,patient age,patientenalter,dob,birth date,"
        "date of birth,geburtsdatum,portable,bedside,mobile,fold,cv fold,kfold,split id,view position,viewposition,"
        "projection,projektion,ap pa,pa ap,frontal lateral,frontal,lateral,laterality,side,seite,position,orientation,"
        "hospital,institution,center,centre,klinik,department,station,ward,icu,inpatient,outpatient,manufacturer,"
        "device,machine,model,vendor,batch,cohort,dataset,data source,origin,year,month,day,date,datum,time,visit,"
        "race,ethnicity,insurance,language,smoker,raucher,smoking,pregnant,deceased,bmi,weight,weight kg,body weight,"
        "height cm,height m,rows,columns,kvp,kv,mas,exposure,dose,reader,annotator,rater,index,row,nr,no,number,nummer,"
        "accession,accession number,modality,body part,window center,window width,rescale slope,rescale intercept,"
        "train,test,val,is train,is test,intubated,intubiert,ventilated,beatmet,bettaufnahme,liegendaufnahme,gerät,"
        "geraet,hersteller,scanner,aufnahmejahr,jahr,monat,standort,stationär,ambulant,notaufnahme,sexo,edad,âge,"
        "fabricante,fumador,fumeur,hôpital,año,année,mois,lit"
    ).split(",")
)


def is_covariate(name: str) -> bool:
    """Return whether a column describes a case or how it was acquired, by its name: it is no label unasked."""
    plain = " ".join(re.findall(r"[^\W_]+", name.casefold()))
    return name.lower() in FACTS or plain in COVARIATES or plain.split(" ")[-1] in ("id", "uid")
